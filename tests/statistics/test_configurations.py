"""What makes a configuration, and what may be compared."""

import math

import pandas as pd
import pytest

from mmbench.statistics.configurations import configurations, mixed, runs
from mmbench.statistics.judge import correlate
from mmbench.statistics.target import DIRECTIONS, TARGETS

pytestmark = pytest.mark.filterwarnings("error")


def target_of(records, target, **which):
    found = runs(pd.DataFrame(records), target)
    for name, value in which.items():
        found = found[found[name] == value]
    return found[target].tolist()


def test_losses_make_two_targets(record):
    rows = [record(base_loss=0.9, final_loss=0.4, final_train_loss=0.1), record(seed=1, base_loss=0.9, final_loss=0.4)]
    assert target_of(rows, "test_loss_gain") == pytest.approx([0.5, 0.5])
    assert target_of(rows, "generalisation_gap") == pytest.approx([0.3])


def matched(record, **changes):
    return record(expansion="scratch_matched", arm="control", **changes)


def test_scratch_is_that_of_the_same_data_base_budget_and_seed(record):
    rows = [
        record(final_accuracy=0.9, seed=0),
        record(final_accuracy=0.9, seed=1),
        record(final_accuracy=0.9, seed=2),
        record(final_accuracy=0.9, seed=0, budget=4.0),
        record(final_accuracy=0.9, seed=0, dataset="other"),
        record(final_accuracy=0.9, seed=0, base_configuration="other"),
        matched(record, final_accuracy=0.8, seed=0),
        matched(record, final_accuracy=0.7, seed=1),
        matched(record, final_accuracy=0.1, seed=2, status="failed"),
    ]
    assert sorted(target_of(rows, "gain_over_scratch")) == pytest.approx([0.1, 0.2])
    excluded = runs(pd.DataFrame(rows), "gain")
    assert len(excluded) == 8


def test_scratch_of_several_axes_is_averaged_however_many_metrics_saw_each(record):
    rows = [
        record(final_accuracy=0.9),
        *(
            matched(record, final_accuracy=0.8, axis="width", metric=metric)
            for metric in ("manifold", "random", "flops")
        ),
        matched(record, final_accuracy=0.6, axis="depth"),
    ]
    assert target_of(rows, "gain_over_scratch") == pytest.approx([0.9 - (0.8 + 0.6) / 2])


def test_a_smaller_gap_is_better(points):
    gaps = [0.1, 0.2, 0.3, 0.4]
    rows = points([4, 3, 2, 1], [0.1, 0.3, 0.2, 0.4], final_loss=0.5, final_train_loss=[0.5 - gap for gap in gaps])
    table = correlate(pd.DataFrame(rows))
    row = table[
        (table["target"] == "generalisation_gap") & (table["group"] == "all") & (table["metric"] == "manifold")
    ].iloc[0]
    assert row["spearman"] == -1
    assert row["expected_sign"] == -1  # the metric's +1, turned: a larger score should mean a smaller gap
    assert row["sign_agrees"]
    assert row["regret_at_1"] == 0
    assert {target for target in TARGETS if DIRECTIONS[target] < 0} == {"generalisation_gap"}


def test_equal_architecture_is_equal_parameters_depth_and_operations(points):
    rows = points([1, 2, 3, 4], [0.1] * 4, parameters=[9, 9, 9, 8], depth=[3, 3, 4, 3], flops=[5, 5, 5, 5])
    cell = configurations(pd.DataFrame(rows), "gain").set_index("score")["architecture_cell"]
    assert cell[1] == cell[2]
    assert cell.nunique() == 3


def test_options_of_a_metric_make_metrics_of_their_own(points):
    gains = [0.1, 0.2, 0.3, 0.4]
    one = points([1, 2, 3, 4], gains, metric_id="aaaaaaaaaaaa")
    other = points([400, 300, 200, 100], gains, metric_id="bbbbbbbbbbbb")
    assert set(correlate(pd.DataFrame(one))["metric"]) == {"manifold", "lookup_table", "second_training"}
    table = correlate(pd.DataFrame(one + other))
    rows = table[(table["group"] == "all") & (table["target"] == "gain")].set_index("metric")["spearman"]
    assert rows["manifold@aaaaaa"] == 1
    assert rows["manifold@bbbbbb"] == -1


def test_one_run_in_two_stores_is_one_run(points):
    rows = points([1, 2, 3, 4], [0.1, 0.2, 0.3, 0.4])
    failed = [{**row, "status": "failed", "score": None} for row in rows[:2]]
    failed += points([7], [0.7], base_configuration="of a alone")
    frame = pd.DataFrame([*({**row, "store": "a"} for row in failed), *({**row, "store": "b"} for row in rows)])
    table = correlate(frame)
    row = table[(table["group"] == "all") & (table["metric"] == "manifold")].iloc[0]
    assert (row["n"], row["spearman"]) == (5, 1)
    groups = table[(table["metric"] == "manifold") & (table["target"] == "gain")].set_index("group")["n"]
    assert (groups["store=a"], groups["store=b"]) == (1, 4)


def test_infinite_and_missing_values_of_any_target_enter_no_rank(points):
    good = points([1, 2, 3, 4], [0.1, 0.2, 0.3, 0.4], final_loss=[0.4, 0.3, 0.2, 0.1], final_train_loss=0.05)
    bad = points([9, 9, 9, 9], [math.inf, math.nan, -math.inf, 0.0], base_configuration="", final_loss=math.inf)
    bad = [{**row, "configuration": f"bad{place}"} for place, row in enumerate(bad)]
    bad[3]["score"] = math.inf
    table = correlate(pd.DataFrame(good + bad))
    rows = table[(table["group"] == "all") & (table["metric"] == "manifold")].set_index("target")
    assert rows["n"].to_dict() == {
        "gain": 4, "final_accuracy": 4, "gain_over_scratch": 0, "test_loss_gain": 4, "generalisation_gap": 4
    }  # fmt: skip
    assert (rows["spearman"].drop(["gain_over_scratch", "generalisation_gap"]) == 1).all()


def test_several_scores_for_one_configuration_and_seed_are_noticed(points):
    once = points([1, 2, 3], [0.1, 0.2, 0.3]) + points([1, 2, 3], [0.1, 0.2, 0.3], seed=1)
    twice = points([5, 6, 7], [0.1, 0.2, 0.3])
    assert mixed(pd.DataFrame(once)) == []
    assert mixed(pd.DataFrame(once + twice)) == ["manifold"]
