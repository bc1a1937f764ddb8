"""The ranking of strategies: by hand, against scipy, and on planted truths."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mmbench.errors import ConfigError
from mmbench.report.verdict import best_strategy
from mmbench.statistics.strategies import compare, ranking, together
from tests.records.synthetic import make_record

pytestmark = pytest.mark.filterwarnings("error")


def runs(effects, bases=("a", "b", "c"), seeds=(0, 1), budgets=(2.0, 4.0), luck=0.0, noise=0.0, metrics=("m",)):
    """Gains of 0.1 + effect; controls by their names. `effects`: name -> effect, or a function of (base, budget)."""
    draw = np.random.default_rng(0)
    rows = []
    for base in bases:
        for seed in seeds:
            shared = luck * draw.normal()
            for budget in budgets:
                for name, effect in effects.items():
                    value = effect(base, budget) if callable(effect) else effect
                    if value is None:
                        continue
                    gain = 0.1 + value + shared + noise * draw.normal()
                    rows += [
                        make_record(
                            dataset="digits", model=base, base_configuration=base, seed=seed, metric=metric,
                            budget=math.nan if name == "none" else budget, expansion=name, gain=gain,
                            axis="none" if name == "none" else "width", parameters=int(1000 * budget),
                            configuration=f"{base}{name}{'' if name == 'none' else budget}", train_seconds=2.0,
                        )
                        for metric in metrics
                    ]  # fmt: skip
    return pd.DataFrame(rows)


def one(frame, strategy, group="all", **options):
    rows = ranking(compare(frame, **options), group).set_index("strategy")
    return rows.loc[strategy]


def test_differences_ranks_and_wins_by_hand():
    frame = runs({"x": 0.03, "y": 0.01, "z": -0.01, "none": -0.1, "scratch": 0.05})
    rows = ranking(compare(frame))
    assert rows["strategy"].tolist() == ["x", "y", "z", "scratch", "none"]  # expansions first, then the controls
    assert rows["difference"].tolist() == pytest.approx([0.02, 0, -0.02, 0.04, -0.11])
    assert rows["mean_rank"].tolist()[:3] == [1, 2, 3]
    assert rows["mean_rank"][3:].isna().all()
    assert rows["win_share"].tolist() == [1, 0.5, 0, 1, 0]
    assert rows["best_share"].tolist()[:3] == [1, 0, 0]
    assert rows["best_probability"].tolist()[:3] == [1, 0, 0]
    assert rows["n"].tolist() == [12, 12, 12, 12, 6]  # none has no budget: one training stands in both cells
    assert rows["n_cells"].tolist() == [12] * 5
    assert rows["gain_per_second"].tolist()[0] == pytest.approx(0.13 / 2)


def test_luck_of_the_base_model_and_the_number_of_metrics_do_not_matter():
    effects = {"x": 0.03, "y": 0.01, "z": -0.01}
    plain, lucky = compare(runs(effects)), compare(runs(effects, luck=1.0, metrics=("m", "n", "o")))
    for column in ("difference", "mean_rank", "win_share"):
        assert lucky[column].tolist() == pytest.approx(plain[column].tolist())
    assert lucky["n"].tolist() == plain["n"].tolist()


def test_the_base_model_is_the_unit_of_the_interval():
    effects = {"x": lambda base, budget: {"a": 0.02, "b": 0.03, "c": 0.07}[base], "y": 0.0}
    found = one(runs(effects), "x")
    halves = np.array([0.01, 0.015, 0.035])
    low, high = stats.t.interval(0.95, 2, halves.mean(), stats.sem(halves))
    assert (found["ci_low"], found["ci_high"]) == (pytest.approx(low), pytest.approx(high))
    assert found["p_value"] == pytest.approx(stats.ttest_1samp(halves, 0).pvalue)
    assert (found["unit"], found["n_base_models"]) == ("base models", 3)


def test_with_one_base_model_seeds_are_the_unit():
    found = one(runs({"x": 0.02, "y": 0.0}, bases=("a",), seeds=range(5), noise=0.001), "x")
    assert found["unit"] == "seeds"
    assert found["ci_low"] < 0.01 < found["ci_high"]


def test_a_strategy_of_few_cells_is_compared_inside_these():
    """w exists on the base model with the largest gains alone, and is the worst there."""
    effects = {"x": lambda base, budget: 0.5 * (base == "a") + 0.02, "y": lambda base, budget: 0.5 * (base == "a"),
               "w": lambda base, budget: 0.45 if base == "a" else None}  # fmt: skip
    rows = ranking(compare(runs(effects)))
    assert rows["strategy"].tolist() == ["x", "y", "w"]
    assert rows.set_index("strategy").loc["w", ["n_cells", "win_share", "n_base_models"]].tolist() == [4, 0, 1]


def test_groups_have_rankings_of_their_own():
    effects = {"x": lambda base, budget: 0.05 if budget > 3 else -0.05, "y": 0.0, "z": 0.01}
    table = compare(runs(effects))
    assert ranking(table, "budget=4")["strategy"].iloc[0] == "x"
    assert ranking(table, "budget=2")["strategy"].iloc[0] == "z"
    assert {"dataset=digits", "model=a", "axis=width"} <= set(table["group"])


def test_the_critical_difference_is_nemenyis():
    """k = 4 strategies, N = 12 base models: 1.35, by q = 2.569 of Demsar's table."""
    names = {name: place / 100 for place, name in enumerate("wxyz")}
    found = one(runs(names, bases=[f"b{place}" for place in range(12)], noise=0.001), "w")
    assert found["critical_difference"] == pytest.approx(2.569 * math.sqrt(4 * 5 / (6 * 12)), rel=1e-3)


def test_strategies_whose_ranks_are_close_stand_together():
    rows = pd.DataFrame({"strategy": list("abcd"), "block_rank": [1.0, 1.8, 2.6, 4.0], "critical_difference": 1.0})
    assert together(rows) == [["a", "b"], ["b", "c"]]
    assert together(rows.assign(critical_difference=math.nan)) == []


def test_strategies_that_do_not_differ_are_not_told_apart():
    table = ranking(compare(runs(dict.fromkeys("uvwxyz", 0.0), bases="abcdef", noise=0.01)))
    assert (table["ci_low"] < 0).sum() + (table["ci_high"] > 0).sum() >= 11  # at most one of six by chance
    assert table["best_probability"].max() < 0.9


def test_by_axis_target_and_mistakes():
    frame = runs({"x": 0.02, "y": 0.01, "none": 0.0})
    deep = frame["expansion"] == "y"
    frame.loc[deep, "axis"] = "depth"
    assert ranking(compare(frame, by="axis"))["strategy"].tolist() == ["width", "depth", "none"]
    assert ranking(compare(frame, by="arm"))["strategy"].tolist() == ["expansion", "control"]
    with pytest.raises(ConfigError, match="by = 'colour' is unknown"):
        compare(frame, by="colour")
    with pytest.raises(ConfigError, match="target = 'x' is unknown"):
        compare(frame, target="x")


@pytest.mark.parametrize("frame", [pd.DataFrame(), runs({"x": 0.0})[:0], runs({"x": 0.0}).assign(status="failed")])
def test_nothing_gives_an_empty_table(frame):
    assert compare(frame).empty


def test_controls_alone_are_compared_among_themselves():
    rows = ranking(compare(runs({"scratch": 0.01, "scratch_matched": 0.03})))
    assert rows["difference"].tolist() == pytest.approx([0.01, -0.01])


def test_strategies_that_never_met_are_not_ordered():
    where = {"good": ("ab", 0.30), "great": ("ab", 0.31), "bad": ("cd", 0.0), "awful": ("cd", -0.3)}
    effects = {
        name: lambda base, budget, bases=bases, gain=gain: gain if base in bases else None
        for name, (bases, gain) in where.items()
    }
    table = compare(runs(effects, bases="abcd", noise=0.001))
    rows = ranking(table)
    assert set(rows["parts"]) == {2}
    assert rows["best_probability"].isna().all()
    assert any("each is compared only with those that it met" in sentence for sentence in best_strategy(table))


def test_a_cell_with_one_expansion_says_nothing():
    frame = runs({"a": 0.2, "b": 0.1}, bases="abcdef", seeds=range(4), budgets=(2.0,), noise=0.001)
    rows = ranking(compare(frame[(frame["expansion"] == "a") | (frame["seed"] == 0)]))
    assert rows["difference"].tolist() == pytest.approx([0.05, -0.05], abs=0.002)
    assert rows["n_cells"].tolist() == [6, 6]
