"""Intervals, influences and partial correlations: closed forms, other libraries on the same numbers, coverage."""

import math

import numpy as np
import pandas as pd
import pytest
from mbe_eval import core
from scipy import stats
from statsmodels import api
from statsmodels.stats import multitest

from mmbench.statistics.correlation import (
    bonett_wright,
    false_discovery_rate,
    influence,
    kendall,
    kendall_interval,
    partial_interval,
    ranks,
    ranks_within,
    spearman,
    spearman_interval,
)

pytestmark = pytest.mark.filterwarnings("error")

ALONE = np.zeros(1000, dtype=int)
"""One base model."""


def partial(score, gain, controls):
    return partial_interval(score, gain, controls, ALONE[: len(score)]).rho


def sample(draw, rho, n):
    x = draw.normal(size=n)
    return x, rho * x + math.sqrt(1 - rho**2) * draw.normal(size=n)


# -- ranks -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 2, 3, 50])
def test_ranks_are_those_of_scipy(n):
    values = np.random.default_rng(n).integers(0, 9, n).astype(float)
    assert ranks(values).tolist() == stats.rankdata(values).tolist()


def test_ranks_within_cells_are_those_of_scipy_in_each():
    draw = np.random.default_rng(0)
    place, values = draw.integers(0, 5, 60), draw.integers(0, 6, 60).astype(float)
    found = ranks_within(place, values)
    for cell in range(5):
        assert found[place == cell].tolist() == stats.rankdata(values[place == cell]).tolist()


# -- rho and tau -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [3, 7, 40, 200])
@pytest.mark.parametrize("tied", [False, True])
def test_rho_and_tau_are_those_of_scipy(n, tied):
    x, y = sample(np.random.default_rng(n), 0.4, n)
    if tied:
        x, y = np.round(x), np.round(2 * y)
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, nan_ok=True)
    assert kendall(x, y) == pytest.approx(stats.kendalltau(x, y).statistic, nan_ok=True)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_fewer_than_three_have_no_correlation(n):
    found = spearman_interval(np.arange(n) + 0.0, np.arange(n) + 1.0, ALONE[:n])
    assert all(math.isnan(value) for value in (found.rho, found.low, found.high, found.p_value))
    assert found.unit == ""


def test_rounding_never_makes_an_interval_out_of_a_perfect_order():
    x = np.linspace(0, 1, 17)
    assert spearman(x, np.exp(3 * x)) == 1
    found = spearman_interval(x, -(x**3), ALONE[:17])
    assert found.rho == found.low == -1
    assert found.p_value == pytest.approx(2 / math.factorial(17), rel=1e-6)
    assert found.high == pytest.approx(-0.99, abs=0.01)


# -- influence ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [False, True])
def test_influences_predict_the_effect_of_leaving_one_out(tied):
    x, y = sample(np.random.default_rng(1), 0.6, 400)
    if tied:
        x, y = np.round(3 * x), np.round(2 * y)
    effects = influence(x, y)
    assert effects.mean() == pytest.approx(0, abs=1e-12)
    rho, n = spearman(x, y), len(x)
    left_out = np.array([spearman(np.delete(x, i), np.delete(y, i)) for i in range(n)])
    assert np.abs((n - 1) * (rho - left_out) - effects).max() < 0.05
    jackknife = math.sqrt((n - 1) / n * ((left_out - left_out.mean()) ** 2).sum())
    assert math.sqrt(effects @ effects) / n == pytest.approx(jackknife, rel=0.01)


def test_without_correlation_the_variance_is_one_over_n():
    draw = np.random.default_rng(2)
    errors = [math.sqrt((influence(*draw.normal(size=(2, 200))) ** 2).sum()) / 200 for _ in range(50)]
    assert np.mean(errors) == pytest.approx(1 / math.sqrt(200), rel=0.03)


def test_copies_of_base_models_do_not_narrow_the_interval():
    """Twenty base models with one configuration each, or the same with ten equal ones each: as much is known."""
    x, y = sample(np.random.default_rng(3), 0.5, 20)
    one = spearman_interval(x, y, np.arange(20))
    ten = spearman_interval(np.repeat(x, 10), np.repeat(y, 10), np.repeat(np.arange(20), 10))
    assert ten.rho == pytest.approx(one.rho)
    assert ten.unit == "base models"
    assert ten.high - ten.low == pytest.approx(one.high - one.low, rel=0.05)
    naive = spearman_interval(np.repeat(x, 10), np.repeat(y, 10), np.zeros(200, dtype=int))
    assert naive.high - naive.low < 0.5 * (ten.high - ten.low)
    assert naive.p_value < ten.p_value


@pytest.mark.parametrize(("bases", "unit"), [(1, "configurations"), (2, "base models"), (3, "base models")])
def test_base_models_are_the_unit_from_two_on(bases, unit):
    x, y = sample(np.random.default_rng(4), 0.5, 30)
    assert spearman_interval(x, y, np.arange(30) % bases).unit == unit


# -- coverage ----------------------------------------------------------------------------------------------------------


def covered(draw, make, truth, times):
    hits = 0
    for _ in range(times):
        found = spearman_interval(*make(draw))
        hits += found.low <= truth <= found.high
    return hits / times


def spearman_of(pearson):
    """Spearman's rho of a bivariate normal of this Pearson correlation. Source: Pearson (1907)."""
    return 6 / math.pi * math.asin(pearson / 2)


@pytest.mark.parametrize(("n", "rho"), [(10, 0.0), (12, 0.5), (20, 0.8), (40, 0.0), (40, 0.8)])
def test_intervals_cover_the_truth_for_independent_configurations(n, rho):
    hit = covered(np.random.default_rng(n), lambda draw: (*sample(draw, rho, n), ALONE[:n]), spearman_of(rho), 600)
    assert 0.92 <= hit <= 0.995  # three standard errors of 600 draws about 0.95 are 0.027


def test_intervals_cover_the_truth_where_bonett_and_wright_do_not():
    """Student's t with 3 degrees of freedom: extremes come together, and ranks of extremes agree too well."""

    def heavy(draw):
        x, y = sample(draw, 0.8, 60)
        scale = np.sqrt(draw.chisquare(3, size=60) / 3)
        return x / scale, y / scale, ALONE[:60]

    draw = np.random.default_rng(5)
    u, v = sample(draw, 0.8, 400_000)
    scale = np.sqrt(draw.chisquare(3, size=400_000) / 3)
    truth = stats.spearmanr(u / scale, v / scale).statistic
    assert covered(draw, heavy, truth, 600) >= 0.92
    rhos = [spearman(*heavy(draw)[:2]) for _ in range(600)]
    theirs = np.mean([low <= truth <= high for low, high in (bonett_wright(rho, 60) for rho in rhos)])
    assert theirs < 0.94


@pytest.mark.parametrize("bases", [4, 8, 16])
@pytest.mark.parametrize("rho", [0.0, 0.5])
def test_intervals_cover_the_truth_where_base_models_differ(bases, rho):
    """Half of the variance of score and of target is that of the base model, unrelated; 12 configurations each."""

    def clustered(draw):
        base = np.repeat(np.arange(bases), 12)
        x, y = sample(draw, rho, bases * 12)
        return x + draw.normal(size=bases)[base], y + draw.normal(size=bases)[base], base

    truth = spearman_of(rho / 2)
    assert covered(np.random.default_rng(bases), clustered, truth, 500) >= 0.87
    if rho == 0:

        def naive(draw):
            x, y, base = clustered(draw)
            return x, y, np.zeros_like(base)

        assert covered(np.random.default_rng(bases), naive, truth, 500) < 0.8


def test_a_score_that_only_knows_base_models_is_no_discovery_ten_times_too_often():
    """The rate of p < 0.05 for a score unrelated to the target, both of which differ between eight base models."""
    draw = np.random.default_rng(6)
    base = np.repeat(np.arange(8), 12)
    found = []
    for _ in range(400):
        x, y = (draw.normal(size=96) + draw.normal(size=8)[base] for _ in range(2))
        found.append((spearman_interval(x, y, base).p_value, stats.spearmanr(x, y).pvalue))
    ours, theirs = (np.array(found) < 0.05).mean(axis=0)
    assert ours < 0.085
    assert theirs > 0.2


# -- tau ---------------------------------------------------------------------------------------------------------------


def test_interval_of_tau_is_fiellers_and_as_wide_as_base_models_make_it():
    x, y = sample(np.random.default_rng(7), 0.5, 48)
    rho = spearman_interval(x, y, ALONE[:48])
    tau = kendall_interval(x, y, rho)
    half = 1.96 * math.sqrt(0.437 / 44)
    assert math.atanh(tau.high) - math.atanh(tau.rho) == pytest.approx(half * rho.widening)
    base = np.repeat(np.arange(4), 12)
    wide = spearman_interval(np.repeat(x[:4], 12) + x / 9, np.repeat(y[:4], 12) + y / 9, base)
    found = kendall_interval(np.repeat(x[:4], 12) + x / 9, np.repeat(y[:4], 12) + y / 9, wide)
    assert wide.widening > 1.5
    assert math.atanh(found.high) - math.atanh(found.rho) == pytest.approx(half * wide.widening)


# -- partial -----------------------------------------------------------------------------------------------------------


def test_partial_correlation_agrees_with_mbe_eval_and_statsmodels():
    draw = np.random.default_rng(8)
    size, base = draw.normal(size=40), draw.integers(0, 4, 40).astype(float)
    score, gain = size + draw.normal(size=40), size + base + draw.normal(size=40)
    found = partial_interval(score, gain, [size, base], ALONE[:40])
    frame = pd.DataFrame({"score": score, "gain": gain, "size": size, "base": base})
    r, p, n = core.partial_rank_corr(frame, "score", "gain", ["size", "base"])
    assert (found.rho, found.p_value, n) == (pytest.approx(r), pytest.approx(p), 40)
    ranked = frame.rank()
    design = api.add_constant(ranked[["score", "size", "base"]])
    assert found.p_value == pytest.approx(api.OLS(ranked["gain"], design).fit().pvalues["score"])


def test_partial_intervals_cover_the_truth():
    draw = np.random.default_rng(9)
    hits = 0
    for _ in range(500):
        size = draw.normal(size=40)
        found = partial_interval(size + draw.normal(size=40), size + draw.normal(size=40), [size], ALONE[:40])
        hits += found.low <= 0 <= found.high
    assert 0.92 <= hits / 500 <= 0.98


def test_configurations_that_lack_a_control_are_left_out():
    draw = np.random.default_rng(10)
    score, gain, size = draw.normal(size=(3, 20))
    size[3], gain[5] = np.nan, np.inf
    kept = np.setdiff1d(np.arange(20), [3, 5])
    assert partial(score, gain, [size]) == partial(score[kept], gain[kept], [size[kept]])


@pytest.mark.parametrize(
    ("rho", "n", "low", "high"),
    [
        (0.8, 6, -0.20, 0.98),
        (0.8, 12, 0.33, 0.95),
        (0.8, 30, 0.58, 0.91),
        (0.5, 19, 0.0296, 0.7891),
        (0, 7, -0.7531, 0.7531),
    ],
)
def test_interval_of_bonett_and_wright(rho, n, low, high):
    digits = 2 if rho == 0.8 else 4
    assert bonett_wright(rho, n) == pytest.approx((low, high), abs=0.6 * 10**-digits)
    assert bonett_wright(-rho, n) == pytest.approx((-high, -low), abs=0.6 * 10**-digits)


def test_partial_correlation_agrees_with_the_inverse_of_the_correlation_matrix():
    draw = np.random.default_rng(2)
    size, base = draw.normal(size=30), draw.integers(0, 4, 30).astype(float)
    score, gain = size + draw.normal(size=30), size + base + draw.normal(size=30)
    precision = np.linalg.inv(np.corrcoef([stats.rankdata(v) for v in (score, gain, size, base)]))
    expected = -precision[0, 1] / math.sqrt(precision[0, 0] * precision[1, 1])
    assert partial(score, gain, [size, base]) == pytest.approx(expected)


def test_constant_controls_are_dropped():
    score, gain = np.array([1.0, 2, 3]), np.array([2.0, 1, 3])  # too few for two controls
    constant = np.ones(3)
    assert partial(score, gain, [constant, constant]) == pytest.approx(stats.spearmanr(score, gain).statistic)


@pytest.mark.parametrize(("n", "defined"), [(4, False), (5, True)])
def test_partial_correlation_needs_three_configurations_more_than_controls(n, defined):
    draw = np.random.default_rng(5)
    found = [partial(score, gain, [size, base]) for score, gain, size, base in draw.normal(size=(20, 4, n))]
    assert any(not math.isnan(rho) for rho in found) == defined


def test_q_values_are_those_of_statsmodels_and_nulls_stay_null():
    p_values = pd.Series([0.001, 0.2, math.nan, 0.03, 0.04, 0.9])
    known = p_values.dropna()
    found = false_discovery_rate(p_values)
    assert found.dropna().tolist() == pytest.approx(multitest.multipletests(known, method="fdr_bh")[1].tolist())
    assert math.isnan(found[2])
