"""The control metrics: which there are, and what the derived ones are made of."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mmbench.statistics.controls import role
from mmbench.statistics.judge import judge
from tests.statistics.planted import BUDGETS, TRUE, planted, row, summary_of

pytestmark = pytest.mark.filterwarnings("error")


@pytest.mark.parametrize(
    ("metric", "sign", "expected"),
    [
        ("parameters", 1, "baseline"),
        ("random", 0, "negative control"),
        ("mine", 0, "negative control"),
        ("manifold", 1, ""),
        ("flops@1a2b3c", 1, "baseline"),
        ("lookup_table", 1, "lookup"),
        ("second_training", 1, "positive control"),
        ("x", pd.NA, ""),
    ],
)
def test_roles(metric, sign, expected):
    assert role(metric, sign) == expected


def test_a_lookup_table_knows_operators_that_are_good_everywhere_and_nothing_else(true):
    good = summary_of(planted(TRUE, effect=3.0, budgets=(2.0, 4.0)), "lookup_table")
    assert good["equal_budget_spearman"] > 0.7
    assert good["role"] == "lookup"
    assert good["cost_fraction"] == 0
    assert abs(row(true, "lookup_table")["equal_budget_spearman"]) < 0.35


def test_a_lookup_table_is_made_of_other_data_only():
    """By hand: two data sets, so the score of the one is the rank in the other."""
    frame = planted(TRUE, datasets=("one", "two"), budgets=(2.0,))
    ranks = {name: part.set_index("expansion")["gain"].rank(pct=True) for name, part in frame.groupby("dataset")}
    gains = [frame.loc[frame["dataset"] == name, "gain"] for name in ("one", "two")]
    expected = stats.spearmanr(np.r_[ranks["two"], ranks["one"]], np.concatenate(gains)).statistic
    assert summary_of(frame, "lookup_table")["spearman"] == pytest.approx(expected)


def test_a_second_training_predicts_as_far_as_training_repeats():
    frame = planted(TRUE, seeds=(0, 1), budgets=BUDGETS[:2])
    judgement = judge(frame)
    second = row(judgement, "second_training")
    assert second["role"] == "positive control"
    assert second["equal_budget_spearman"] > 0.8
    assert second["cost_fraction"] == pytest.approx(1)
    assert second["n"] == second["n_configurations"] == 64
    luck = frame.groupby(["dataset", "seed"])["gain"].transform("mean") - frame.groupby("dataset")["gain"].transform(
        "mean"
    )
    halves = frame.assign(gain=frame["gain"] - luck).pivot_table(index="configuration", columns="seed", values="gain")
    assert second["spearman"] == pytest.approx(stats.spearmanr(halves[0], halves[1]).statistic)
    reliability = judgement.reliability.set_index("target").loc["gain"]
    assert reliability["single"] == pytest.approx(second["spearman"], abs=0.03)


def test_controls_are_no_discoveries():
    judgement = judge(
        planted({**TRUE, "random": (0, lambda size, quality, noise: noise)}, seeds=(0, 1), budgets=(2.0,))
    )
    for control in ("random", "second_training", "lookup_table"):
        assert math.isnan(row(judgement, control)["q_value"])
        assert (control in set(judgement.differences["rival"])) == (control != "second_training"), (
            "no rival: a part of it"
        )
        assert control in set(judgement.transfer["metric"])
        assert control in set(judgement.regret_curve["metric"])
