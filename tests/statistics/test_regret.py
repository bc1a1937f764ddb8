"""Regret and precision, by hand and by drawing the ties."""

import math

import numpy as np
import pytest

from mmbench.statistics.regret import precision_at, random_regret, regret_at, regret_at_1

pytestmark = pytest.mark.filterwarnings("error")


def drawn(preference, goal, k, times=4000):
    """Regret and precision at k with ties broken at random."""
    draw = np.random.default_rng(0)
    regret, hits = [], []
    for _ in range(times):
        chosen = np.lexsort((draw.random(len(preference)), -preference))[:k]
        best = np.lexsort((draw.random(len(goal)), -goal))[:k]
        regret.append(goal.max() - goal[chosen].max())
        hits.append(len(np.intersect1d(chosen, best)) / k)
    return np.mean(regret), np.mean(hits)


@pytest.mark.parametrize("k", [1, 2, 3, 5, 7])
def test_regret_and_precision_are_what_random_ties_average_to(k):
    preference, goal = np.array([3.0, 1, 3, 2, 3, 2, 0]), np.array([0.1, 0.5, 0.2, 0.5, 0.0, 0.4, 0.3])
    regret, precision = drawn(preference, goal, k)
    assert regret_at(preference, goal, k) == pytest.approx(regret, abs=0.006)
    if k < 7:
        one = np.zeros(7, dtype=int)
        assert precision_at(one, preference, goal, k)[0] == pytest.approx(precision, abs=0.02)
        assert precision_at(one, preference, goal, k)[1] == pytest.approx(k / 7)


def test_all_trained_have_no_regret_and_random_choices_the_expected_one():
    goal = np.array([1.0, 2, 4])
    assert regret_at(np.arange(3.0), goal, 3) == 0
    assert regret_at(0 * goal, goal, 1) == pytest.approx(4 - 7 / 3)
    assert regret_at(0 * goal, goal, 2) == pytest.approx(4 - (2 + 4 + 4) / 3)
    many = np.random.default_rng(0).normal(size=500)
    losses = [regret_at(0 * many, many, k) for k in (1, 2, 50, 250, 500)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] == pytest.approx(0, abs=1e-9)


def test_regret_at_1_is_that_of_each_cell_averaged():
    draw = np.random.default_rng(1)
    cell = draw.permutation(np.r_[np.arange(50) % 6 - 1, 5])  # 5 is a lone configuration: nothing to choose
    preference, goal = np.round(draw.normal(size=51)), draw.normal(size=51)
    by_hand = [regret_at(preference[cell == code], goal[cell == code], 1) for code in range(5)]
    assert regret_at_1(cell, preference, goal) == pytest.approx(np.mean(by_hand))
    at_random = [goal[cell == code].max() - goal[cell == code].mean() for code in range(5)]
    assert random_regret(cell, goal) == pytest.approx(np.mean(at_random))


@pytest.mark.parametrize("n", [0, 1])
def test_nothing_to_choose_from(n):
    cell = np.zeros(n, dtype=int)
    assert math.isnan(regret_at_1(cell, np.ones(n), np.ones(n)))
    assert math.isnan(random_regret(cell, np.ones(n)))
    assert all(math.isnan(value) for value in precision_at(cell, np.ones(n), np.ones(n)))
