"""Reliability over seeds: an analysis of variance by another library, and what noise does to a planted correlation."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.formula import api
from statsmodels.stats import anova

from mmbench.statistics.correlation import spearman
from mmbench.statistics.reliability import ceiling, reliability

pytestmark = pytest.mark.filterwarnings("error")


def runs(noise, configurations=300, seeds=3, seed=0):
    draw = np.random.default_rng(seed)
    true = draw.normal(size=configurations)
    number = np.repeat(np.arange(configurations), seeds)
    return true, number, true[number] + noise * draw.normal(size=len(number))


def test_it_is_the_intraclass_correlation_of_an_analysis_of_variance():
    _, number, values = runs(0.8, configurations=25)
    frame = pd.DataFrame({"number": number, "rank": stats.rankdata(values)})
    squares = anova.anova_lm(api.ols("rank ~ C(number)", frame).fit())["mean_sq"].to_numpy()
    found = reliability(number, values)
    assert found.mean == pytest.approx((squares[0] - squares[1]) / squares[0])
    assert found.single == pytest.approx((squares[0] - squares[1]) / (squares[0] + 2 * squares[1]))
    assert (found.seeds, found.configurations) == (3, 25)


def test_spearman_and_brown_join_the_reliability_of_one_run_and_of_the_mean():
    _, number, values = runs(1.0, seeds=4)
    found = reliability(number, values)
    assert found.mean == pytest.approx(4 * found.single / (1 + 3 * found.single))
    assert found.single == pytest.approx(0.5, abs=0.06)  # equal variances of truth and noise


def test_no_noisy_score_beats_the_ceiling():
    true, number, target = runs(1.0)
    _, _, score = runs(1.0, seed=0)
    score = true[number] + 1.5 * np.random.default_rng(5).normal(size=len(number))
    means = [np.bincount(number, values) / 3 for values in (score, target)]
    bound = ceiling(reliability(number, score).mean, reliability(number, target).mean)
    assert spearman(*means) == pytest.approx(bound, abs=0.07)


@pytest.mark.parametrize(
    ("number", "values"),
    [([], []), ([0], [1.0]), ([0, 1, 2], [1.0, 2, 3]), ([0, 0], [1.0, 2]), ([0, 0, 1, 1], [5.0, 5, 5, 5])],
    ids=["none", "one run", "one seed", "one configuration", "constant"],
)
def test_nothing_is_known_of_noise(number, values):
    found = reliability(np.array(number, dtype=int), np.array(values))
    assert math.isnan(found.mean)
    assert math.isnan(ceiling(found.mean, 0.9))


def test_more_noise_than_signal_is_no_reliability():
    assert reliability(np.array([0, 0, 1, 1]), np.array([1.0, 4, 2, 3])).mean == 0
