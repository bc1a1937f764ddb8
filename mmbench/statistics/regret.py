"""What it costs to trust a score: regret and precision of its first choices among the configurations of a base model.

`merit` is the score, turned so that larger is preferred; ties of merit are broken at random, and what is returned is
the expectation over that. `goal` is the target, turned so that larger is better.

* regret at k: the best goal of all candidates minus the best among the k preferred ones.
* precision at k: the share of the k preferred that are among the k truly best. Source: Ning et al., Evaluating
  Efficient Performance Estimators of Neural Architectures (2021).
* regret against cost: regret at k beside what it costs to score all candidates and to train k of them, as a fraction of
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


def cells(cell: Codes, *columns: Array, least: int = 2) -> Iterator[tuple[Array, ...]]:
    """The columns inside each cell of at least `least` configurations; code -1 is no cell."""
    order, starts = _sorted(cell)
    for members in np.split(order, starts[1:]) if len(order) else []:
        if len(members) >= least:
            yield tuple(values[members] for values in columns)


def regret_at_1(cell: Codes, merit: Array, goal: Array) -> float:
    """Mean over cells of the best goal minus the goal of the preferred; NaN without a cell of two configurations."""
    order, starts = _sorted(cell)
    if not len(order):
        return math.nan
    merit, goal, n = merit[order], goal[order], np.diff(np.r_[starts, len(order)])
    preferred = merit == np.repeat(np.maximum.reduceat(merit, starts), n)
    chosen = np.add.reduceat(goal * preferred, starts) / np.add.reduceat(preferred, starts)
    lost = (np.maximum.reduceat(goal, starts) - chosen)[n >= 2]
    return float(lost.mean()) if len(lost) else math.nan


def random_regret(cell: Codes, goal: Array) -> float:
    """The expected regret at 1 of a choice at random."""
    return regret_at_1(cell, np.zeros_like(goal), goal)


def precision_at(cell: Codes, merit: Array, goal: Array, k: int = TOP) -> tuple[float, float]:
    """Mean precision at k over cells of more than k configurations, and that of a choice at random, mean k / n."""
    found = [
        (_top(merits, k) @ _top(goals, k) / k, k / len(goals))
        for merits, goals in cells(cell, merit, goal, least=k + 1)
    ]
    return (
        (float(np.mean([hit for hit, _ in found])), float(np.mean([luck for _, luck in found])))
        if found
        else (math.nan,) * 2
    )


def regret_at(merit: Array, goal: Array, k: int) -> float:
    """Expected regret at k of one cell; with constant merit, that of k candidates drawn at random."""
    return float(goal.max()) - _expected_best(merit, goal, k)


def _sorted(cell: Codes) -> tuple[Codes, Codes]:
    """The order that brings cells together, without those of code -1, and where each starts in it."""
    order = np.argsort(cell, kind="stable")
    order = order[np.searchsorted(cell[order], 0) :]
    return order, np.flatnonzero(np.r_[True, np.diff(cell[order]) > 0]) if len(order) else order


def _top(values: Array, k: int) -> Array:
    """The probability of each value to be among the k largest, ties broken at random."""
    cut = np.partition(values, -k)[-k]
    above, tied = values > cut, values == cut
    return above + tied * ((k - above.sum()) / tied.sum())


def _expected_best(merit: Array, goal: Array, k: int) -> float:
    """E[max goal] of the k preferred: those above the cut for sure, and r of the m that are tied at it at random."""
    cut = np.partition(merit, -k)[-k]
    sure, tied = goal[merit > cut], np.sort(goal[merit == cut])
    m, r = len(tied), k - len(sure)
    # P(the largest of r out of m is the one of rank i) = C(i - 1, r - 1) / C(m, r), for i >= r
    i = np.arange(r, m + 1)
    chances = np.zeros(m)
    chances[r - 1 :] = np.exp(_log_choose(i - 1, r - 1) - _log_choose(m, r))
    floor = sure.max(initial=-math.inf)
    return float(chances @ np.maximum(tied, floor))


def _log_choose(n: Any, k: int) -> Any:
    return special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1.0)
