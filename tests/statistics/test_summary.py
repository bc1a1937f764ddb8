"""All statistics of one metric, against closed forms and other libraries."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mmbench.statistics.correlation import bonett_wright
from tests.statistics.planted import summary_of

pytestmark = pytest.mark.filterwarnings("error")

UNDEFINED = ["spearman", "ci_low", "ci_high", "p_value", "kendall", "partial_spearman", "equal_budget_spearman"]


# -- closed forms ------------------------------------------------------------------------------------------------------


def test_ranks_with_ties_by_hand(points):
    # ranks 1, 2.5, 2.5, 4 and 1, 3, 2, 4: rho = 4.5 / sqrt(4.5 * 5)
    # 5 concordant pairs and 1 tied: tau-b = 5 / sqrt(5 * 6)
    row = summary_of(points([10, 20, 20, 70], [0.1, 0.3, 0.2, 0.4]))
    assert row["spearman"] == pytest.approx(4.5 / math.sqrt(22.5))
    assert row["kendall"] == pytest.approx(5 / math.sqrt(30))
    assert (row["n"], row["n_configurations"]) == (4, 4)


def test_statistics_agree_with_scipy(points):
    draw = np.random.default_rng(1)
    score, gain = draw.normal(size=15), draw.normal(size=15)
    row = summary_of(points(score.tolist(), gain.tolist()))
    expected = stats.spearmanr(score, gain)
    assert row["spearman"] == pytest.approx(expected.statistic)
    assert row["p_value"] == pytest.approx(expected.pvalue)
    low, high = bonett_wright(expected.statistic, 15)  # Bonett and Wright's, which ours comes near to for normal data
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((low, high), abs=0.08)


def test_a_perfect_order_has_an_interval_up_to_one(points):
    row = summary_of(points(np.geomspace(1e-9, 1e9, 13).tolist(), np.linspace(-0.1, 0.2, 13).tolist()))
    assert row["spearman"] == 1
    assert 0.9 < row["ci_low"] < row["ci_high"] == 1


def test_three_configurations_have_no_interval_and_two_no_correlation(points):
    three = summary_of(points([1, 2, 3], [0.1, 0.3, 0.2]))
    assert three["spearman"] == pytest.approx(0.5)
    assert three[["ci_low", "ci_high", "p_value"]].isna().all()
    assert summary_of(points([1, 2], [0.1, 0.2]))[UNDEFINED].isna().all()


@pytest.mark.parametrize(
    ("scores", "gains"), [([5.0] * 6, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]), ([1, 2, 3, 4, 5, 6], [0.1] * 6)]
)
def test_a_constant_side_correlates_with_nothing(points, scores, gains):
    row = summary_of(points(scores, gains))
    assert row["n_configurations"] == 6
    assert row[[*UNDEFINED, "sign_agrees"]].isna().all()


# -- what counts -------------------------------------------------------------------------------------------------------


def test_only_done_runs_with_finite_score_and_target_count(points):
    good = points([1, 2, 3, 4], [0.1, 0.2, 0.3, 0.4])
    bad = points(
        [math.nan, math.inf, -math.inf, None, 9, 9, 9],
        [0.0, 0.0, 0.0, 0.0, math.nan, math.inf, 0.0],
        status=["done"] * 6 + ["failed"],
    )
    bad = [{**row, "configuration": f"bad{place}"} for place, row in enumerate(bad)]
    row = summary_of(good + bad)
    assert (row["n"], row["n_configurations"], row["spearman"]) == (4, 4, 1)


def test_seeds_are_averaged_before_ranking(points):
    # the means are ordered like the gains though most single runs are not
    first = points([0, 10, 2], [0.1, 0.2, 0.3], seed=0)
    second = points([1, -8, 9], [0.1, 0.2, 0.3], seed=1)
    row = summary_of(first + second)
    assert (row["n"], row["n_configurations"], row["spearman"]) == (6, 3, 1)
    runs = pd.DataFrame(first + second)
    assert stats.spearmanr(runs["score"], runs["gain"]).statistic < 0.5


def test_gains_that_differ_by_rounding_only_are_ties(points):
    gains = [0.9 - 0.8, 0.8 - 0.7, 0.7 - 0.6, 0.5]
    assert len(set(gains)) > 2  # as floats they differ
    by_hand = stats.spearmanr([1, 2, 3, 4], [1, 1, 1, 2]).statistic
    assert summary_of(points([1, 2, 3, 4], gains))["spearman"] == pytest.approx(by_hand)


def test_without_configurations_equal_runs_but_for_metric_and_seed_are_one(record):
    rows = [
        record(expansion=name, seed=seed, score=score, gain=score / 10)
        for name, score in (("a", 1), ("b", 2), ("c", 3))
        for seed in (0, 1)
    ]
    row = summary_of(rows)
    assert (row["n"], row["n_configurations"]) == (6, 3)


# -- partial -----------------------------------------------------------------------------------------------------------


def test_nothing_is_left_of_a_score_that_is_a_control(points):
    parameters = [1000, 2000, 3000, 4000, 5000, 6000]
    row = summary_of(points(parameters, [0.1, 0.3, 0.2, 0.4, 0.6, 0.5], parameters=parameters))
    assert row["spearman"] > 0.8
    assert math.isnan(row["partial_spearman"])


# -- equal budget ------------------------------------------------------------------------------------------------------


def planted(points, score_of, seed=0):
    """Five budgets of twelve configurations; gain is size plus a quality that size does not know."""
    draw = np.random.default_rng(seed)
    rows = []
    for budget in (1.5, 2.0, 3.0, 4.0, 8.0):
        quality, noise = draw.normal(size=12), draw.normal(size=12)
        gains = 0.1 * math.log2(budget) + 0.01 * quality
        scores = score_of(math.log2(budget), quality, noise)
        block = points(list(map(float, scores)), gains.tolist(), budget=budget, parameters=int(1000 * budget))
        rows += [{**row, "configuration": f"{budget}-{row['configuration']}"} for row in block]
    return rows


def test_a_score_that_knows_only_size_is_seen_through(points):
    row = summary_of(planted(points, lambda size, quality, noise: size + 0.05 * noise))
    assert row["spearman"] > 0.9
    assert abs(row["equal_budget_spearman"]) < 0.2
    assert abs(row["partial_spearman"]) < 0.3


def test_a_score_that_knows_quality_keeps_its_correlation_at_equal_budget(points):
    row = summary_of(planted(points, lambda size, quality, noise: quality + 0.2 * noise))
    assert row["spearman"] < 0.6
    assert row["equal_budget_spearman"] > 0.9
    assert row["partial_spearman"] > 0.8


def test_equal_budget_groups_are_weighted_by_their_configurations(points):
    three = points([1, 2, 3], [0.1, 0.2, 0.3], budget=2.0)  # rho = 1
    five = points([1, 2, 3, 4, 5], [0.2, 0.1, 0.3, 0.5, 0.4], budget=4.0)  # sum d^2 = 4: rho = 1 - 24 / 120 = 0.8
    two = points([9, 8], [0.1, 0.2], budget=8.0)  # too few
    flat = points([7, 7, 7], [0.1, 0.2, 0.3], budget=3.0)  # constant
    none = points([1, 2, 3], [0.3, 0.2, 0.1], budget=None)
    rows = [
        {**r, "configuration": f"{i}{r['configuration']}"}
        for i, b in enumerate([three, five, two, flat, none])
        for r in b
    ]
    assert summary_of(rows)["equal_budget_spearman"] == pytest.approx((3 * 1 + 5 * 0.8) / 8)


@pytest.mark.parametrize("column", ["dataset", "base_configuration", "model", "training"])
def test_equal_budget_never_mixes_data_sets_or_base_models(points, column):
    # inside each group rho = -1, over both together it would be positive
    low, high = points([1, 2, 3], [0.3, 0.2, 0.1]), points([11, 12, 13], [0.6, 0.5, 0.4])
    rows = [{**r, column: "one"} for r in low] + [
        {**r, column: "two", "configuration": "x" + r["configuration"]} for r in high
    ]
    row = summary_of(rows)
    assert row["spearman"] > 0
    assert row["equal_budget_spearman"] == -1


def test_the_parameter_count_is_constant_at_equal_budget_in_spite_of_rounding(points):
    sizes = [1999, 2001, 2003, 2010]
    args = ([float(size) for size in sizes], [0.1, 0.2, 0.3, 0.4])
    assert math.isnan(summary_of(points(*args, metric="parameters"), "parameters")["equal_budget_spearman"])
    assert summary_of(points(*args, metric="other"), "other")["equal_budget_spearman"] == 1


# -- regret, cost, sign ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "sign", "regret"),
    [
        ([1, 2, 3], 1, 0.3 - 0.1),
        ([1, 2, 3], -1, 0.3 - 0.2),
        ([1, 2, 3], 0, 0.3 - 0.1),
        ([1, 2, 3], None, 0.3 - 0.1),
        ([1, 3, 3], 1, 0.3 - (0.3 + 0.1) / 2),
        ([5, 9, 5], 1, 0),
    ],
)
def test_regret_of_the_first_choice(points, scores, sign, regret):
    assert summary_of(points(scores, [0.2, 0.3, 0.1], expected_sign=sign))["regret_at_1"] == pytest.approx(regret)


def test_regret_is_averaged_over_base_models(points):
    one = points([1, 2], [0.3, 0.1], base_configuration="a")  # 0.2
    two = points([1, 2, 3], [0.1, 0.2, 0.5], base_configuration="b")  # 0
    lone = points([1], [0.9], base_configuration="c")  # nothing to choose
    assert summary_of(one + two + lone)["regret_at_1"] == pytest.approx(0.1)


def test_cost_is_time_of_the_metric_over_time_of_training(points):
    row = summary_of(
        points([1, 2, 3], [0.1, 0.2, 0.3], metric_seconds=[1.0, 2.0, 6.0], train_seconds=[10.0, 20.0, 30.0])
    )
    assert row["seconds"] == pytest.approx(3)
    assert row["cost_fraction"] == pytest.approx(9 / 60)
    unknown = summary_of(
        points([1, 2, 3], [0.1, 0.2, 0.3], metric_seconds=[1.0, 2.0, None], train_seconds=[10.0, None, 30.0])
    )
    assert unknown["seconds"] == pytest.approx(1.5)
    assert unknown["cost_fraction"] == pytest.approx(1 / 10)


@pytest.mark.parametrize(
    ("sign", "agrees"),
    [(1, True), (-1, False), (0, None), (None, None)],
    ids=["expected", "opposite", "no sign", "null"],
)
def test_sign_agreement(points, sign, agrees):
    row = summary_of(points([1, 2, 3, 4], [0.1, 0.2, 0.4, 0.3], expected_sign=sign))
    assert (row["sign_agrees"] is None) if agrees is None else (row["sign_agrees"] == agrees)
