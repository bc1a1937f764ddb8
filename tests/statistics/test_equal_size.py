"""Correlation inside cells: closed forms, exact permutation variance, another library's heterogeneity, coverage."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats import meta_analysis as meta

from mmbench.statistics.correlation import spearman_interval
from mmbench.statistics.equal_size import CellCorrelations, correlate_cells, mean_over_cells

pytestmark = pytest.mark.filterwarnings("error")


def cells(rhos, n, base=None):
    k = len(rhos)
    return CellCorrelations(
        np.arange(k), np.arange(k) if base is None else np.asarray(base), np.asarray(n), np.asarray(rhos, float)
    )


def test_cells_are_scipys_one_by_one_and_the_others_do_not_count():
    draw = np.random.default_rng(0)
    cell = draw.integers(-1, 9, 80)
    score, target = np.round(draw.normal(size=80), 1), np.round(draw.normal(size=80), 1)
    score[cell == 4] = 7.0
    found = correlate_cells(cell, cell // 3, score, target)
    expected = {
        code: (stats.spearmanr(score[cell == code], target[cell == code]).statistic, (cell == code).sum())
        for code in range(9)
        if (cell == code).sum() >= 3 and code != 4
    }
    assert found.code.tolist() == list(expected)
    assert found.rho == pytest.approx([rho for rho, _ in expected.values()])
    assert found.n.tolist() == [n for _, n in expected.values()]
    assert found.base.tolist() == [code // 3 for code in expected]


@pytest.mark.parametrize("n", [0, 2])
def test_too_little_has_no_mean(n):
    none = correlate_cells(np.zeros(n, dtype=int), np.zeros(n, dtype=int), np.arange(n) + 0.0, np.arange(n) + 0.0)
    found = mean_over_cells(none)
    assert math.isnan(found.mean.rho)
    assert (found.cells, found.n) == (0, 0)


def test_the_p_value_is_the_share_of_all_permutations_inside_cells():
    cell = np.repeat([0, 1], [4, 5])
    draw = np.random.default_rng(0)
    score, target = draw.normal(size=9), np.round(draw.normal(size=9), 1)
    target[1] = target[0]
    found = mean_over_cells(correlate_cells(cell, np.zeros(9, dtype=int), score, target)).mean
    rhos = [
        [
            stats.spearmanr(score[cell == c], list(order)).statistic
            for order in itertools.permutations(target[cell == c])
        ]
        for c in (0, 1)
    ]
    means = np.abs([(4 * a + 5 * b) / 9 for a in rhos[0] for b in rhos[1]])
    assert found.p_value == pytest.approx((means >= abs(found.rho) - 1e-9).mean())
    assert (found.p_value < 0.05) == (not found.low <= 0 <= found.high)


def test_beyond_that_it_is_students_t_for_the_variance_under_permutation():
    found = mean_over_cells(cells([0.4, 0.8], [14, 16], base=[0, 0])).mean
    mean = (14 * 0.4 + 16 * 0.8) / 30
    assert found.rho == pytest.approx(mean)
    freedom = 1 / ((14 / 30) ** 2 / 13 + (16 / 30) ** 2 / 15) - 1
    t = mean * math.sqrt(freedom / (1 - mean**2))
    assert found.p_value == pytest.approx(2 * stats.t.sf(t, freedom))


@pytest.mark.parametrize(("n", "p_value"), [(4, 2 / 24), (5, 2 / 120), (6, 2 / 720)])
def test_a_perfect_order_of_few_has_the_exact_p_value(n, p_value):
    x = np.arange(n) + 0.0
    for found in (
        mean_over_cells(correlate_cells(np.zeros(n, dtype=int), np.zeros(n, dtype=int), x, x)).mean,
        spearman_interval(x, x**3, np.zeros(n, dtype=int)),
    ):
        assert found.p_value == pytest.approx(p_value)
        assert (found.low > 0) == (p_value < 0.05)


@pytest.mark.parametrize("bases", [1, 2, 3, 6])
@pytest.mark.parametrize("n", [4, 6, 9, 20])
def test_the_p_value_is_below_five_percent_exactly_where_the_interval_excludes_zero(bases, n):
    draw = np.random.default_rng(n)
    base = np.repeat(np.arange(bases), n)
    found = []
    for time in range(100):
        score = draw.normal(size=len(base))
        target = (time % 3) * score + draw.normal(size=len(base))
        found += [
            mean_over_cells(correlate_cells(base, base, score, target)).mean,
            spearman_interval(score, target, base),
        ]
    significant = np.array([one.p_value < 0.05 for one in found])
    assert (significant == [not one.low <= 0 <= one.high for one in found]).all()
    assert significant.any() or n * bases == 4 or bases == 2  # 4 are too few, and so are 2 base models at most


def test_heterogeneity_is_that_of_statsmodels():
    rhos, n = np.array([0.9, -0.2, 0.4, 0.6, 0.1]), np.array([12, 15, 9, 20, 11])
    found = mean_over_cells(cells(rhos, n))
    mean = n @ rhos / n.sum()
    variance = (1 - mean**2) ** 2 * (1 + mean**2 / 2) / (n - 1)
    theirs = meta.combine_effects(rhos, variance)
    assert found.i2 == pytest.approx(theirs.i2)
    assert mean_over_cells(cells([0.3, 0.3, 0.3], [9, 9, 9])).i2 == 0


def test_perfect_cells_have_an_interval_up_to_one():
    found = mean_over_cells(cells([1, 1, 1, 1], [6, 6, 6, 6])).mean
    assert found.rho == found.high == 1
    assert found.low > 0.9
    assert found.p_value < 1e-4


@pytest.mark.parametrize(("bases", "budgets", "spread"), [(1, 4, 0.0), (2, 2, 0.0), (4, 2, 0.0), (6, 2, 0.3)])
def test_intervals_cover_the_mean_over_base_models(bases, budgets, spread):
    draw = np.random.default_rng(bases)
    n, mean, hits, times = 8, 0.3, 0, 400
    base = np.repeat(np.arange(bases * budgets) // budgets, n)
    cell = np.repeat(np.arange(bases * budgets), n)
    means = []
    # E[rho] of eight draws from a normal of correlation 0.3; source: Moran (1948)
    truth = (6 / 9) * (6 / math.pi * math.asin(mean / 2)) + (3 / 9) * (2 / math.pi * math.asin(mean))
    for time in range(times + 600):
        rho = np.clip(mean + spread * draw.normal(size=bases), -0.95, 0.95)[base]
        score = draw.normal(size=len(cell))
        found = mean_over_cells(
            correlate_cells(cell, base, score, rho * score + np.sqrt(1 - rho**2) * draw.normal(size=len(cell)))
        ).mean
        means.append(found.rho)
        hits += time < times and found.low <= truth <= found.high
    assert np.mean(means) == pytest.approx(truth, abs=0.025)
    assert hits / times >= 0.91


def test_null_scores_are_found_by_chance_no_more_often_than_said():
    draw = np.random.default_rng(7)
    cell = np.repeat(np.arange(6), 5)
    base = cell // 2
    p_values = [
        mean_over_cells(correlate_cells(cell, base, *draw.normal(size=(2, 30)))).mean.p_value for _ in range(600)
    ]
    assert (np.array(p_values) < 0.05).mean() < 0.075


@pytest.mark.parametrize(("n", "p_value"), [(9, 2 / 9), (12, 2 / 12), (60, 2 / 60)])
def test_a_perfect_order_of_ties_is_no_proof(n, p_value):
    """One outlier among equal values: a permutation meets it once in n; both directions are counted."""
    x = np.zeros(n)
    x[0] = 1
    one = np.zeros(n, dtype=int)
    for found in (mean_over_cells(correlate_cells(one, one, x, x)).mean, spearman_interval(x, 3 * x, one)):
        assert found.rho == 1
        assert found.p_value == pytest.approx(p_value)
        assert (found.low > 0) == (p_value < 0.05)
