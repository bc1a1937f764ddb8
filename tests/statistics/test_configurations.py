"""What makes a configuration, and what may be compared."""

import math

import pandas as pd
import pytest

from mmbench.statistics.configurations import configurations, mixed, prepare
from mmbench.statistics.judge import correlate, judge
from tests.records.synthetic import make_record
from tests.statistics.planted import summary_of

pytestmark = pytest.mark.filterwarnings("error")


def test_equal_architecture_is_equal_parameters_depth_and_operations(points):
    rows = points([1, 2, 3, 4], [0.1] * 4, parameters=[9, 9, 9, 8], depth=[3, 3, 4, 3], flops=[5, 5, 5, 5])
    cell = configurations(pd.DataFrame(rows), "gain").set_index("score")["architecture_cell"]
    assert cell[1] == cell[2]
    assert cell.nunique() == 3


def test_options_of_a_metric_make_metrics_of_their_own(points):
    gains = [0.1, 0.2, 0.3, 0.4]
    one = points([1, 2, 3, 4], gains, metric_id="aaaaaaaaaaaa")
    other = points([400, 300, 200, 100], gains, metric_id="bbbbbbbbbbbb")
    assert set(configurations(pd.DataFrame(one), "gain")["metric"]) == {"manifold"}
    both = one + other
    assert set(configurations(pd.DataFrame(both), "gain")["metric"]) == {"manifold@aaaaaa", "manifold@bbbbbb"}
    assert summary_of(both, "manifold@aaaaaa")["spearman"] == 1
    assert summary_of(both, "manifold@bbbbbb")["spearman"] == -1


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
        **{"gain": 4, "best_validation_gain": 0, "final_accuracy": 4, "gain_over_scratch": 0},
        **{"test_loss_gain": 4, "generalisation_gap": 4},
    }  # fmt: skip
    assert (rows["spearman"].drop(["gain_over_scratch", "best_validation_gain", "generalisation_gap"]) == 1).all()


def test_several_scores_for_one_configuration_and_seed_are_noticed(points):
    once = points([1, 2, 3], [0.1, 0.2, 0.3]) + points([1, 2, 3], [0.1, 0.2, 0.3], seed=1)
    twice = points([5, 6, 7], [0.1, 0.2, 0.3])
    assert mixed(pd.DataFrame(once)) == []
    assert mixed(pd.DataFrame(once + twice)) == ["manifold"]


def test_sets_of_options_are_named_by_what_differs():
    def named(*definitions):
        rows = [
            make_record(metric="sharpness", metric_id=f"{place}bcdefgh", definition=text, run_id=f"r{place}")
            for place, text in enumerate(definitions)
        ]
        return sorted(prepare(pd.DataFrame(rows))["metric"])

    assert named("sharpness(rho=0.1, images=9)", "sharpness(images=9)") == ["sharpness", "sharpness rho=0.1"]
    assert named("sharpness(rho=0.1)", "sharpness(rho=0.2, images=9)") == [
        "sharpness rho=0.1",
        "sharpness rho=0.2 images=9",
    ]
    assert named("sharpness(a=[1, 2])", "sharpness(a=[1, 3])") == ["sharpness a=[1, 2]", "sharpness a=[1, 3]"]
    assert named("sharpness()", "sharpness()") == ["sharpness@0bcdef", "sharpness@1bcdef"]
    assert named(None, None) == ["sharpness@0bcdef", "sharpness@1bcdef"]


def test_conflicting_signs_are_told():
    rows = [make_record(metric="m", expected_sign=sign, run_id=str(sign)) for sign in (1, -1)]
    remarks = judge(pd.DataFrame(rows)).remarks
    assert "The records of m contradict each other on the expected sign: none is assumed." in remarks
