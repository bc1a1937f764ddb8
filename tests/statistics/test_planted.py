"""Planted truths: a confounder, a true predictor, nothing at all; the controls; transfer; what does not count."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats import multitest

from mmbench.records.frame import load_records
from mmbench.statistics.judge import correlate, judge
from mmbench.statistics.tables import adjusted

pytestmark = pytest.mark.filterwarnings("error")

BUDGETS = (1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)
OPERATORS = tuple("abcdefgh")


def planted(record, scores, seed=0, datasets=("one", "two", "three", "four"), seeds=(0,), budgets=BUDGETS, effect=0.0):
    """Gain is log2(budget) / 10 + quality / 100, the operator's effect in it; `scores` are of size, quality, noise."""
    draw = np.random.default_rng(seed)
    effects = dict(zip(OPERATORS, effect * draw.normal(size=8), strict=True))
    rows = []
    for dataset in datasets:
        for budget in budgets:
            for operator in OPERATORS:
                quality = draw.normal() + effects[operator]
                for turn in seeds:
                    gain = 0.1 * math.log2(budget) + 0.01 * quality + 0.003 * draw.normal()
                    for metric, (sign, score) in scores.items():
                        rows.append(
                            record(
                                dataset=dataset, budget=budget, expansion=operator, metric=metric, expected_sign=sign,
                                seed=turn, gain=gain, final_accuracy=0.5 + gain, parameters=round(1000 * budget),
                                score=float(score(math.log2(budget), quality, draw.normal())),
                                configuration=f"{dataset}{budget}{operator}", base_configuration=dataset,
                            )
                        )  # fmt: skip
    return pd.DataFrame(rows)


SIZE = {"manifold": (1, lambda size, quality, noise: size + 0.02 * noise)}
TRUE = {"manifold": (1, lambda size, quality, noise: quality + 0.3 * noise)}


def row(judged, metric="manifold", target="gain", group="all"):
    table = judged if isinstance(judged, pd.DataFrame) else judged.correlations
    return table[(table["metric"] == metric) & (table["target"] == target) & (table["group"] == group)].iloc[0]


@pytest.fixture(scope="module")
def confounded(record):
    return judge(planted(record, SIZE))


@pytest.fixture(scope="module")
def true(record):
    return judge(planted(record, TRUE))


def test_a_confounder_is_seen_through_by_every_way_of_asking(confounded):
    judgement = confounded
    found = row(judgement)
    assert found["spearman"] > 0.95
    assert abs(found["equal_budget_spearman"]) < 0.15
    assert found["equal_budget_low"] < 0 < found["equal_budget_high"]
    assert found["equal_budget_p"] > 0.05
    assert abs(found["partial_spearman"]) < 0.2
    psi = judgement.granulated.set_index(["metric", "target", "axis"])["psi"]["manifold"]["gain"]
    assert psi["budget"] > 0.95
    assert abs(psi["expansion"]) < 0.2
    assert found["sign_error_max"] > 0.3
    assert found["equal_budget_regret_at_1"] > 0.005


def test_a_true_predictor_is_not_taken_for_a_confounder(true):
    judgement = true
    found = row(judgement)
    assert found["spearman"] < 0.5  # size hides it
    assert found["equal_budget_low"] > 0.7
    assert found["equal_budget_p"] < 1e-3
    assert found["partial_low"] > 0.6
    assert found["equal_budget_signs"] == "32 of 32"
    cells = judgement.cells[(judgement.cells["metric"] == "manifold") & (judgement.cells["target"] == "gain")]
    assert cells.loc[cells["kind"] == "equal_budget", "sign_agrees"].all()
    assert len(cells[cells["kind"] == "equal_budget"]) == 32


@pytest.mark.parametrize("seed", range(3))
def test_the_confounder_over_draws(record, seed):
    found = row(correlate(planted(record, SIZE, seed=seed + 10)))
    assert found["spearman"] > 0.95
    assert abs(found["equal_budget_spearman"]) < 0.25


def test_a_sign_that_turns_from_data_to_data_shows_in_heterogeneity_and_cells(record):
    frame = planted(record, TRUE)
    turned = frame["dataset"].isin(["one", "two"])
    frame.loc[turned, "score"] *= -1
    found = row(correlate(frame))
    assert abs(found["equal_budget_spearman"]) < 0.2
    assert found["equal_budget_i2"] > 0.8
    assert found["equal_budget_signs"] == "16 of 32"
    assert found["equal_budget_low"] < 0 < found["equal_budget_high"]


def test_of_many_null_metrics_next_to_none_is_a_discovery(record):
    nulls = {f"null{place}": (1, lambda size, quality, noise: noise) for place in range(20)}
    discoveries = 0
    for seed in range(4):
        table = correlate(planted(record, nulls, seed=seed, datasets=("one", "two", "three"), budgets=(2.0, 4.0)))
        rows = table[(table["group"] == "all") & (table["target"] == "gain") & (table["role"] == "")]
        discoveries += int((rows["q_value"] < 0.05).any()) + int((rows["equal_budget_q"] < 0.05).any())
    assert discoveries <= 2  # of 8 families, each with at most 5 % of them false


def test_q_values_are_those_of_statsmodels_and_nulls_stay_null():
    p_values = pd.Series([0.001, 0.2, math.nan, 0.03, 0.04, 0.9])
    known = p_values.dropna()
    found = adjusted(p_values)
    assert found.dropna().tolist() == pytest.approx(multitest.multipletests(known, method="fdr_bh")[1].tolist())
    assert math.isnan(found[2])


# -- controls ----------------------------------------------------------------------------------------------------------


def test_a_lookup_table_knows_operators_that_are_good_everywhere_and_nothing_else(record, true):
    good = correlate(planted(record, TRUE, effect=3.0, budgets=(2.0, 4.0)))
    assert row(good, "lookup_table")["equal_budget_spearman"] > 0.7
    assert row(good, "lookup_table")["role"] == "lookup"
    assert row(good, "lookup_table")["cost_fraction"] == 0
    assert abs(row(true, "lookup_table")["equal_budget_spearman"]) < 0.35


def test_a_lookup_table_is_made_of_other_data_only(record):
    """By hand: two data sets, so the score of the one is the rank in the other."""
    frame = planted(record, TRUE, datasets=("one", "two"), budgets=(2.0,))
    ranks = {name: part.set_index("expansion")["gain"].rank(pct=True) for name, part in frame.groupby("dataset")}
    gains = [frame.loc[frame["dataset"] == name, "gain"] for name in ("one", "two")]
    expected = stats.spearmanr(np.r_[ranks["two"], ranks["one"]], np.concatenate(gains)).statistic
    assert row(correlate(frame), "lookup_table")["spearman"] == pytest.approx(expected)


def test_a_second_training_foretells_as_far_as_training_repeats(record):
    frame = planted(record, TRUE, seeds=(0, 1), budgets=BUDGETS[:4])
    judgement = judge(frame)
    second = row(judgement, "second_training")
    assert second["role"] == "positive control"
    assert second["equal_budget_spearman"] > 0.8
    assert second["cost_fraction"] == pytest.approx(1)
    assert second["n"] == second["n_configurations"] == 128
    halves = frame.pivot_table(index="configuration", columns="seed", values="gain")
    assert second["spearman"] == pytest.approx(stats.spearmanr(halves[0], halves[1]).statistic)
    reliability = judgement.reliability.set_index("target").loc["gain"]
    assert reliability["single"] == pytest.approx(second["spearman"], abs=0.03)


@pytest.mark.parametrize(
    ("control", "said"), [("lookup_table", "another data set"), ("second_training", "a second seed")]
)
def test_a_control_that_cannot_be_made_says_why(record, control, said):
    found = row(judge(planted(record, TRUE, datasets=("one",))), control)
    assert found["n_configurations"] == 0
    assert said in found["words"]


def test_controls_are_no_discoveries(record):
    judgement = judge(
        planted(record, {**TRUE, "random": (0, lambda size, quality, noise: noise)}, seeds=(0, 1), budgets=(2.0,))
    )
    for control in ("random", "second_training", "lookup_table"):
        assert math.isnan(row(judgement, control)["q_value"])
        assert (control in set(judgement.differences["rival"])) == (control != "second_training"), (
            "no rival: a part of it"
        )
        assert control in set(judgement.transfer["metric"])
        assert control in set(judgement.regret_curve["metric"])


# -- the other tables --------------------------------------------------------------------------------------------------


def test_differences_are_between_the_manifold_metric_and_every_other(record):
    scores = {**TRUE, "worse": (-1, lambda size, quality, noise: -quality - 3 * noise)}
    table = judge(planted(record, scores, budgets=(2.0, 4.0))).differences
    found = table[(table["rival"] == "worse") & (table["target"] == "gain") & (table["group"] == "all")].set_index(
        "statistic"
    )
    assert found["ci_low"]["equal_budget_spearman"] > 0
    assert found["rho"]["equal_budget_spearman"] > found["rival_rho"]["equal_budget_spearman"] > 0
    assert (found["q_value"] >= found["p_value"]).all()
    assert not table["rival"].eq("manifold").any()


def test_transfer_learns_the_sign_elsewhere(record):
    frame = planted(record, TRUE, budgets=(2.0,))
    frame.loc[frame["dataset"] == "one", "score"] *= -1
    table = judge(frame).transfer
    found = table[(table["metric"] == "manifold") & (table["target"] == "gain") & (table["by"] == "dataset")].set_index(
        "held_out"
    )
    assert found.loc["one", "transferred"] < -0.5
    assert (found.drop("one")["transferred"] > 0.5).all()
    assert found.loc["one", "n_train"] == 24
    assert "Too few" in found.loc["one", "words"]


def test_regret_falls_with_what_is_spent(record):
    table = judge(planted(record, TRUE, budgets=(2.0,))).regret_curve
    found = table[(table["metric"] == "manifold") & (table["target"] == "gain")]
    assert found["regret"].is_monotonic_decreasing
    assert found["cost"].is_monotonic_increasing
    assert (found["regret"] <= found["random_regret"]).all()
    first = found.iloc[0]
    assert first["cost"] == pytest.approx(0.2 + 1 / 8)  # the metric takes 2 s of 10 s of training


def test_what_does_not_count_is_counted_with_its_reason(record, points, stored):
    rows = points([1, 2, math.inf, None], [0.1, 0.2, 0.3, 0.4])
    rows += [
        record(seed=9, status="failed", error="diverged at step 3", score=None),
        record(seed=8, status="skipped", error="no"),
    ]
    rows += [record(seed=7, gain=None, score=5.0)]
    table = judge(pd.DataFrame(rows)).exclusions
    found = {(row["where"], row["reason"]): row["n"] for _, row in table.iterrows()}
    assert found["run", "failed: diverged at step 3"] == 1
    assert found["run", "skipped: no"] == 1
    assert found["score", "score is infinite"] == 1
    assert found["score", "no score"] == 1
    assert found["target", "no gain"] == 1
    assert found["target", "no scratch_matched of its data set, base model, budget and seed"] == 3


# -- stores of any kind ------------------------------------------------------------------------------------------------


def test_an_empty_frame_has_every_table_and_says_so():
    judgement = judge(pd.DataFrame())
    assert all(len(table) == 0 for name, table in judgement.tables.items() if name != "reliability")
    assert judgement.words == ["There is no run yet."]


def test_nothing_but_failures(record):
    failed = [record(status="failed", error="out of luck", score=None, gain=None, seed=seed) for seed in (0, 1)]
    judgement = judge(pd.DataFrame(failed))
    assert judgement.words == ["No run is done: there is nothing to judge."]
    assert row(judgement)["words"].startswith("Nothing to judge")


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_configurations_are_called_few(points, n):
    judgement = judge(pd.DataFrame(points(list(range(n)), [0.1, 0.3, 0.2][:n])))
    assert f"only {n} configuration" in row(judgement)["words"]
    assert any(f"Only {n} configuration" in sentence for sentence in judgement.words)


def test_a_constant_score_is_called_constant(points):
    judgement = judge(pd.DataFrame(points([5.0] * 6, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6])))
    assert "the same everywhere" in row(judgement)["words"]


def test_one_budget_one_base_model_one_seed_are_named(record):
    judgement = judge(planted(record, TRUE, datasets=("one",), budgets=(2.0,)))
    words = " ".join(judgement.words)
    assert "Only 1 base model" in words
    assert "One data set" in words
    assert "One seed" in words
    assert row(judgement)["interval"] == "configurations"


def test_a_running_sweep_is_called_unfinished(record, stored):
    from mmbench.store.store import Store

    rows = [record(seed=seed) for seed in range(3)]
    folder = stored(rows)
    store = Store(folder)
    store.write_sweep({"runs": {entry["run_id"]: "label" for entry in rows} | {"later": "label", "now": "label"}})
    store.write_heartbeat("now", "base")
    frame = load_records(folder)
    assert frame.attrs["unfinished"] == {"missing": 2, "running": 1}
    assert any("2 runs missing, 1 of them running" in sentence for sentence in judge(frame).words)
