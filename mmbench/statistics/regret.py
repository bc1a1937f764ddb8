"""The cost of choosing by a score: regret and precision of its first choices among the configurations of a base model.

`preference` is the score, with its sign turned so that a larger one is preferred; ties are broken at random, and the
expected value is returned. `goal` is the target, with its sign turned so that a larger one is better.

* regret at k: the best goal of all candidates minus the best among the k preferred ones.
* precision at k: the share of the k preferred that are among the k truly best. Source: Ning et al., Evaluating
  Efficient Performance Estimators of Neural Architectures (2021).
* regret against cost: regret at k, and what it costs to score all candidates and to train k of them, as a fraction of
  training them all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.float64]
Codes = NDArray[np.int64]

TOP = 3
"""The k of precision at k."""


def split(group: Codes, *columns: Array, least: int = 2) -> Iterator[tuple[Array, ...]]:
    """The columns inside each group of at least `least` configurations.

    Args:
        group: the number of each configuration's group, shape (n,); -1 for none.
        columns: arrays of shape (n,).
        least: the smallest group that counts.

    Yields:
        The columns of one group.
    """
    order, starts = _sorted(group)
    for members in np.split(order, starts[1:]) if len(order) else []:
        if len(members) >= least:
            yield tuple(values[members] for values in columns)


def regret_at_1(group: Codes, preference: Array, goal: Array) -> float:
    """Mean over groups of the best goal minus the goal of the preferred configuration.

    Args:
        group: the number of each configuration's group, shape (n,); -1 for none.
        preference: of each configuration, shape (n,).
        goal: of each configuration, shape (n,).

    Returns:
        The regret in units of the goal; NaN without a group of two configurations.
    """
    order, starts = _sorted(group)
    if not len(order):
        return math.nan
    preference, goal, n = preference[order], goal[order], np.diff(np.r_[starts, len(order)])
    preferred = preference == np.repeat(np.maximum.reduceat(preference, starts), n)
    chosen = np.add.reduceat(goal * preferred, starts) / np.add.reduceat(preferred, starts)
    lost = (np.maximum.reduceat(goal, starts) - chosen)[n >= 2]
    return float(lost.mean()) if len(lost) else math.nan


def random_regret(group: Codes, goal: Array) -> float:
    """The expected regret at 1 of a choice at random."""
    return regret_at_1(group, np.zeros_like(goal), goal)


def precision_at(group: Codes, preference: Array, goal: Array, k: int = TOP) -> tuple[float, float]:
    """Mean precision at k over groups of more than k configurations.

    Args:
        group: the number of each configuration's group, shape (n,); -1 for none.
        preference: of each configuration, shape (n,).
        goal: of each configuration, shape (n,).
        k: how many are chosen.

    Returns:
        The precision, and that of a choice at random, mean k / n; NaN without such a group.
    """
    precisions = [
        (_top(preferences, k) @ _top(goals, k) / k, k / len(goals))
        for preferences, goals in split(group, preference, goal, least=k + 1)
    ]
    if not precisions:
        return math.nan, math.nan
    return float(np.mean([precision for precision, _ in precisions])), float(
        np.mean([chance for _, chance in precisions])
    )


def regret_at(preference: Array, goal: Array, k: int) -> float:
    """Expected regret at k inside one group.

    Args:
        preference: of each candidate, shape (n,); a constant one is a choice at random.
        goal: of each candidate, shape (n,).
        k: how many are chosen, at most n.

    Returns:
        The regret in units of the goal.
    """
    return float(goal.max()) - _expected_best(preference, goal, k)


def _sorted(group: Codes) -> tuple[Codes, Codes]:
    """The order that sorts by group, without group -1, and the start of each group in it."""
    order = np.argsort(group, kind="stable")
    order = order[np.searchsorted(group[order], 0) :]
    return order, np.flatnonzero(np.r_[True, np.diff(group[order]) > 0]) if len(order) else order


def _top(values: Array, k: int) -> Array:
    """The probability that each value is among the k largest, ties broken at random."""
    cut = np.partition(values, -k)[-k]
    above, tied = values > cut, values == cut
    return above + tied * ((k - above.sum()) / tied.sum())


def _expected_best(preference: Array, goal: Array, k: int) -> float:
    """E[max goal] of the k preferred: all those above the cut, and a random r of the m that are tied at it."""
    cut = np.partition(preference, -k)[-k]
    sure, tied = goal[preference > cut], np.sort(goal[preference == cut])
    m, r = len(tied), k - len(sure)
    # P(the largest of r out of m is the one of rank i) = C(i - 1, r - 1) / C(m, r), for i >= r
    i = np.arange(r, m + 1)
    chances = np.zeros(m)
    chances[r - 1 :] = np.exp(_log_choose(i - 1, r - 1) - _log_choose(m, r))
    floor = sure.max(initial=-math.inf)
    return float(chances @ np.maximum(tied, floor))


def _log_choose(n: Any, k: int) -> Any:
    return special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1.0)
