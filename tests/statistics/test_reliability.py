"""Reliability over seeds: an analysis of variance by another library, and what noise does to a planted correlation."""

import math

import numpy as np
import pandas as pd
import pytest
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


def of(number, values, base=None, seed=None):
    number = np.array(number, dtype=int)
    if seed is None:  # the first run of each configuration is seed 0, and so on
        seed = pd.Series(number).groupby(number).cumcount().to_numpy(dtype=int)
    return reliability(number, seed, np.zeros_like(number) if base is None else base, np.array(values))


def icc(table):
    """ICC(C,1) and ICC(C,k) of a complete table, by the mean squares of another library's analysis of variance."""
    long = table.stack().rename("value").rename_axis(["row", "column"]).reset_index()
    squares = anova.anova_lm(api.ols("value ~ C(row) + C(column)", long).fit())["mean_sq"]
    rows, error, k = squares["C(row)"], squares["Residual"], table.shape[1]
    return (rows - error) / (rows + (k - 1) * error), (rows - error) / rows


def test_it_is_the_two_way_intraclass_correlation_of_consistency():
    """The table of Shrout and Fleiss (1979), whose ICC(3,1) and ICC(3,k) are published: 0.71 and 0.91."""
    rows = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    table = pd.DataFrame(rows, dtype=float)
    number, seed = np.repeat(np.arange(6), 4), np.tile(np.arange(4), 6)
    found = of(number, table.to_numpy().ravel(), seed=seed)
    single, mean = icc(table)
    assert (found.single, found.mean) == (pytest.approx(single), pytest.approx(mean))
    assert (round(found.single, 2), round(found.mean, 2)) == (0.71, 0.91)
    assert (found.seeds, found.configurations) == (4, 6)


def test_luck_that_all_expansions_of_a_base_model_share_does_not_matter():
    _, number, values = runs(0.3, configurations=40)
    seed, base = np.tile(np.arange(3), 40), number // 20
    luck = 5 * np.random.default_rng(1).normal(size=(2, 3))[base, seed]
    shared, alone = of(number, values + luck, base, seed), of(number, values, base, seed)
    assert shared.mean == pytest.approx(alone.mean)
    assert shared.mean > 0.95


def test_a_seed_that_is_missing_for_half_of_the_configurations_does_not_lower_it():
    _, number, values = runs(0.3, configurations=40)
    seed = np.tile(np.arange(3), 40)
    values = values + np.array([0.0, 4.0, -2.0])[seed]
    kept = (seed < 2) | (number < 20)
    complete, partly = of(number, values, seed=seed), of(number[kept], values[kept], seed=seed[kept])
    assert partly.single == pytest.approx(complete.single, abs=0.03)
    assert partly.mean == pytest.approx(complete.mean, abs=0.03)


def test_it_is_the_mean_over_base_models():
    _, number, good = runs(0.1, configurations=20)
    bad = runs(10.0, configurations=20, seed=3)[2]
    both = of(np.r_[number, number + 20], np.r_[good, bad], np.repeat([0, 1], 60))
    singles = [of(number, good).single, of(number, bad).single]
    assert both.single == pytest.approx(np.mean(singles), abs=0.05)


def test_spearman_and_brown_join_the_reliability_of_one_run_and_of_the_mean():
    _, number, values = runs(1.0, seeds=4)
    found = of(number, values)
    assert found.mean == pytest.approx(4 * found.single / (1 + 3 * found.single))
    assert found.single == pytest.approx(0.5, abs=0.06)  # equal variances of truth and noise


def test_no_noisy_score_beats_the_ceiling():
    true, number, target = runs(1.0)
    _, _, score = runs(1.0, seed=0)
    score = true[number] + 1.5 * np.random.default_rng(5).normal(size=len(number))
    means = [np.bincount(number, values) / 3 for values in (score, target)]
    bound = ceiling(of(number, score).mean, of(number, target).mean)
    assert spearman(*means) == pytest.approx(bound, abs=0.07)


@pytest.mark.parametrize(
    ("number", "values"),
    [([], []), ([0], [1.0]), ([0, 1, 2], [1.0, 2, 3]), ([0, 0], [1.0, 2]), ([0, 0, 1, 1], [5.0, 5, 5, 5])],
    ids=["none", "one run", "one seed", "one configuration", "constant"],
)
def test_nothing_is_known_of_noise(number, values):
    found = of(number, values)
    assert math.isnan(found.mean)
    assert math.isnan(ceiling(found.mean, 0.9))


def test_more_noise_than_signal_is_no_reliability():
    assert of([0, 0, 1, 1], [1.0, 4, 2, 3]).mean == 0


def test_seeds_that_no_configuration_connects_do_not_lower_it():
    """Two sweeps of other expansions with other seeds: each is a table of its own."""
    draw = np.random.default_rng(0)
    number, found = np.repeat(np.arange(8), 2), []
    for seed in (np.tile([0, 1], 8), np.r_[np.tile([0, 1], 4), np.tile([2, 3], 4)]):
        singles = [of(number, draw.normal(size=8)[number] + draw.normal(size=16), seed=seed).single for _ in range(400)]
        found.append(np.mean(singles))
    assert found[1] == pytest.approx(found[0], abs=0.06)
