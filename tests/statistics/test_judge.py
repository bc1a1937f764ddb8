"""The tables: their rows, groups, order and columns."""

import pandas as pd
import pytest

from mmbench.statistics.correlation import false_discovery_rate
from mmbench.statistics.judge import correlate, judge, ranked
from mmbench.statistics.summary import COLUMNS
from mmbench.statistics.target import TARGETS
from tests.statistics.planted import TRUE, planted, row

pytestmark = pytest.mark.filterwarnings("error")

CONTRACT = [
    *("metric", "target", "group", "n", "n_configurations", "spearman", "ci_low", "ci_high", "p_value", "kendall"),
    *("partial_spearman", "equal_budget_spearman", "regret_at_1", "seconds", "cost_fraction", "expected_sign"),
    "sign_agrees",
]
UNDEFINED = ["spearman", "ci_low", "ci_high", "p_value", "kendall", "partial_spearman", "equal_budget_spearman"]


def test_a_metric_that_always_failed_has_rows_of_nothing(points):
    failed = [{**r, "status": "failed", "score": None} for r in points([1, 2, 3], [0.1, 0.2, 0.3])]
    found = row(correlate(pd.DataFrame(failed)))
    assert (found["n"], found["n_configurations"], found["expected_sign"]) == (0, 0, 1)
    assert found[[*UNDEFINED, "regret_at_1", "seconds", "cost_fraction", "sign_agrees"]].isna().all()


def test_groups_hold_what_they_say(sweep_table):
    table = sweep_table
    assert list(table.columns) == list(COLUMNS)
    assert list(COLUMNS)[: len(CONTRACT)] == CONTRACT
    assert set(table["group"]) == {
        "all", "arm=expansion", "axis=depth", "axis=width", "budget=1", "budget=1.5", "budget=2", "dataset=digits",
        "model=mlp", "model=resnet", "training=sgd",
    }  # fmt: skip
    rows = table[(table["metric"] == "manifold") & (table["target"] == "gain")].set_index("group")
    assert rows["n_configurations"].to_dict() == {
        "all": 11, "arm=expansion": 7, "axis=depth": 1, "axis=width": 8, "budget=1": 2, "budget=1.5": 2, "budget=2": 7,
        "dataset=digits": 11, "model=mlp": 5, "model=resnet": 6, "training=sgd": 11,
    }  # fmt: skip
    assert rows["n"]["all"] == 22
    assert table[table["metric"] == "hessian_trace"]["n"].max() == 20


def test_a_group_is_judged_like_a_frame_of_its_own(sweep_frame, sweep_table):
    whole, part = sweep_table, correlate(sweep_frame[sweep_frame["model"] == "resnet"])
    one = whole[whole["group"] == "model=resnet"].drop(columns="group").reset_index(drop=True)
    other = part[part["group"] == "all"].drop(columns="group").reset_index(drop=True)
    pd.testing.assert_frame_equal(one, other)


def test_rows_are_sorted_all_first_then_gain_then_strength(sweep_table):
    table = sweep_table
    assert list(table["group"][:42]) == ["all"] * 42  # five metrics and two derived controls
    assert list(table["target"][:42]) == [target for target in TARGETS for _ in range(7)]
    assert table["spearman"][:6].abs().is_monotonic_decreasing
    assert table["metric"][6] == "lookup_table"  # undefined for one data set


def test_ranking_by_agreement_puts_what_theory_says_nothing_of_at_zero(points):
    gains = [0.1, 0.2, 0.3, 0.4]
    rows = [
        *points([4, 3, 2, 1], gains, metric="falls", expected_sign=-1),
        *points([1, 2, 4, 3], gains, metric="rises", expected_sign=1),
        *points([1, 2, 3, 4], gains, metric="noise", expected_sign=0),
        *points([2, 1, 3, 4], gains, metric="wrong", expected_sign=-1),
        *points([2, 2, 2, 2], gains, metric="flat", expected_sign=1),
    ]
    found = list(ranked(correlate(pd.DataFrame(rows)))["metric"])
    assert found == ["falls", "rises", "noise", "wrong", "flat", "lookup_table", "second_training"]


# -- two metrics -------------------------------------------------------------------------------------------------------


def test_regret_falls_with_what_is_spent():
    table = judge(planted(TRUE, budgets=(2.0,))).regret_curve
    found = table[(table["metric"] == "manifold") & (table["target"] == "gain")]
    assert found["regret"].is_monotonic_decreasing
    assert found["cost"].is_monotonic_increasing
    assert (found["regret"] <= found["random_regret"]).all()
    first = found.iloc[0]
    assert first["cost"] == pytest.approx(0.2 + 1 / 8)  # the metric takes 2 s of 10 s of training


def test_an_empty_frame_has_every_table_and_says_so(record):
    judgement = judge(pd.DataFrame())
    assert list(judgement.correlations) == list(COLUMNS)
    assert list(correlate(pd.DataFrame([record()]).iloc[:0])) == list(COLUMNS)
    assert all(len(table) == 0 for name, table in judgement.tables.items() if name != "reliability")
    assert judgement.remarks == ["There is no run yet."]


def test_q_values_are_over_the_metrics_of_one_target_and_group(sweep_table):
    for _, rows in sweep_table.groupby(["target", "group"]):
        tested = rows["role"].isin(["", "baseline"])
        for p_value, q_value in (("p_value", "q_value"), ("equal_budget_p", "equal_budget_q")):
            expected = false_discovery_rate(rows[p_value].where(tested))
            pd.testing.assert_series_equal(rows[q_value], expected, check_names=False)


def test_the_order_of_the_rows_changes_nothing_and_controls_are_known_by_name(sweep_frame, sweep_table):
    shuffled = sweep_frame.drop(columns="arm").sample(frac=1, random_state=3)
    pd.testing.assert_frame_equal(correlate(shuffled), sweep_table)
