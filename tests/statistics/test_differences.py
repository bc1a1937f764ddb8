"""Paired differences of two metrics: coverage, null rate, and what pairing is worth."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mmbench.statistics.configurations import prepare
from mmbench.statistics.differences import difference_in_cells, difference_table, differences, spearman_difference
from mmbench.statistics.sample import Samples
from tests.statistics.planted import TRUE, planted

pytestmark = pytest.mark.filterwarnings("error")
ONE = np.zeros(500, dtype=int)


def triple(draw, n, first=0.7, second=0.4):
    target = draw.normal(size=n)
    return *(rho * target + math.sqrt(1 - rho**2) * draw.normal(size=n) for rho in (first, second)), target


@pytest.mark.parametrize("n", [15, 40])
def test_intervals_cover_the_true_difference(n):
    draw = np.random.default_rng(n)
    truth = [6 / math.pi * math.asin(rho / 2) for rho in (0.7, 0.4)]
    found = [spearman_difference(*triple(draw, n), ONE[:n]) for _ in range(500)]
    hit = np.mean([row.ci_low <= truth[0] - truth[1] <= row.ci_high for row in found])
    assert 0.92 <= hit <= 0.985


def test_equal_metrics_differ_by_chance_no_more_often_than_said():
    draw = np.random.default_rng(0)
    p_values = [spearman_difference(*triple(draw, 30, 0.5, 0.5), ONE[:30]).p_value for _ in range(500)]
    assert (np.array(p_values) < 0.05).mean() < 0.08
    cell = np.repeat(np.arange(5), 6)
    inside = [difference_in_cells(*triple(draw, 30, 0, 0), ONE[:30], cell).p_value for _ in range(500)]
    assert (np.array(inside) < 0.05).mean() < 0.08


def test_pairing_narrows_the_interval_of_two_scores_that_are_nearly_one():
    draw = np.random.default_rng(1)
    score, other, target = triple(draw, 60, 0.7, 0.7)
    twin = score + 0.1 * draw.normal(size=60)
    near, far = (spearman_difference(score, rival, target, ONE[:60]) for rival in (twin, other))
    assert near.ci_high - near.ci_low < 0.4 * (far.ci_high - far.ci_low)


def test_base_models_widen_the_interval():
    draw = np.random.default_rng(2)
    base = np.repeat(np.arange(6), 10)
    target = draw.normal(size=60) + 2 * draw.normal(size=6)[base]
    score, rival = (target + draw.normal(size=60) + 2 * draw.normal(size=6)[base] for _ in range(2))
    alone, clustered = (
        spearman_difference(score, rival, target, ONE[:60]),
        spearman_difference(score, rival, target, base),
    )
    assert clustered.difference == alone.difference
    assert clustered.ci_high - clustered.ci_low > 1.3 * (alone.ci_high - alone.ci_low)


def test_at_equal_budget_only_cells_count_that_both_have():
    cell = np.repeat([0, 1, -1], 4)
    score, target = np.tile([1.0, 2, 3, 4], 3), np.tile([1.0, 2, 4, 3], 3)
    rival = np.r_[4.0, 3, 2, 1, 7, 7, 7, 7, 1, 2, 3, 4]  # constant in the second cell
    found = difference_in_cells(score, rival, target, ONE[:12], cell)
    assert (found.n_configurations, found.rho, found.rival_rho) == (4, pytest.approx(0.8), pytest.approx(-0.8))


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_too_little_has_no_interval(n):
    x = np.arange(n) + 0.0
    for found in (spearman_difference(x, -x, x, ONE[:n]), difference_in_cells(x, -x, x, ONE[:n], ONE[:n])):
        assert math.isnan(found.p_value) or n == 3
        assert found.n_configurations in (0, n)


def test_equal_scores_have_no_difference_and_no_interval():
    score, _, target = triple(np.random.default_rng(3), 20)
    found = spearman_difference(score, score, target, ONE[:20])
    assert found.difference == 0
    assert math.isnan(found.ci_low)


def test_comparison_turns_each_metric_to_its_expected_direction(points):
    draw = np.random.default_rng(4)
    gains = draw.normal(size=40)
    good, bad = -gains + 0.3 * draw.normal(size=40), draw.normal(size=40)
    rows = [
        *points(good.tolist(), gains.tolist(), metric="good", expected_sign=-1),
        *points(bad[:30].tolist(), gains[:30].tolist(), metric="bad"),
    ]
    samples = Samples(prepare(pd.DataFrame(rows)), "gain")
    found = differences(samples.sample("good"), samples.sample("bad"))["spearman"]
    assert found.n_configurations == 30
    assert found.rho == pytest.approx(-stats.spearmanr(good[:30], gains[:30]).statistic)
    assert found.rival_rho == pytest.approx(stats.spearmanr(bad[:30], gains[:30]).statistic)
    assert found.p_value < 0.001


def test_differences_are_between_the_manifold_metric_and_every_other():
    scores = {**TRUE, "worse": (-1, lambda size, quality, noise: -quality - 3 * noise)}
    table = difference_table([Samples(prepare(planted(scores, budgets=(2.0, 4.0))), "gain")])
    found = table[(table["rival"] == "worse") & (table["target"] == "gain") & (table["group"] == "all")].set_index(
        "statistic"
    )
    assert found["ci_low"]["equal_budget_spearman"] > 0
    assert found["rho"]["equal_budget_spearman"] > found["rival_rho"]["equal_budget_spearman"] > 0
    assert (found["q_value"] >= found["p_value"]).all()
    assert not table["rival"].eq("manifold").any()
