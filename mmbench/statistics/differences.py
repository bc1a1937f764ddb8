"""Whether one metric ranks better than another, on the configurations that both have.

Both correlations are turned by their expected signs, so that positive means: as theory says. Their difference is
paired: the same configurations, the same targets, so what chance does to the one it mostly does to the other.

* spearman: the influence of a configuration on rho_1 - rho_2 is the difference of its influences; interval and p-value
  as in correlation.py, without atanh (a difference is not bounded where its parts are).
* equal_budget_spearman: inside a cell, if the target is unrelated to both scores, rho_1 - rho_2 has exactly the
  variance 2 (1 - r) / (n - 1) under permutation, r being the correlation of the two scores. The differences are
  averaged with weights n; from three base models on their spread over base models counts if it is wider.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbench.statistics.correlation import BASES, influence, spearman, standard_error
from mmbench.statistics.equal_size import within
from mmbench.statistics.panel import Sample
from mmbench.statistics.ranks import t_quantile, t_sided

Array = NDArray[np.float64]
Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Difference:
    """rho - rival_rho with interval and p-value; NaN where undefined."""

    n_configurations: int
    rho: float = math.nan
    rival_rho: float = math.nan
    difference: float = math.nan
    ci_low: float = math.nan
    ci_high: float = math.nan
    p_value: float = math.nan


def paired(one: Sample, other: Sample) -> dict[str, Difference]:
    """Both differences of two metrics of one group, on the configurations that both have.

    The target is that of the first; the two differ only where one metric lacks a seed that the other has.
    """
    _, left, right = np.intersect1d(one.number, other.number, assume_unique=True, return_indices=True)
    score, rival = one.turn * one.score[left], other.turn * other.score[right]
    target = one.target[left]
    return {
        "spearman": of_ranks(score, rival, target, one.base_cell[left]),
        "equal_budget_spearman": at_equal_budget(score, rival, target, one.base_cell[left], one.budget_cell[left]),
    }


def of_ranks(score: Array, rival: Array, target: Array, base: Codes) -> Difference:
    """The difference of the two Spearman correlations with the target."""
    n = len(score)
    rho, rival_rho = spearman(score, target), spearman(rival, target)
    gap = rho - rival_rho
    if n < 4 or math.isnan(gap):
        return Difference(n, rho, rival_rho, gap)
    effects = influence(score, target) - influence(rival, target)
    errors = [(standard_error(effects, None), n - 2)]
    if (bases := len(np.unique(base))) >= BASES:
        errors.append((standard_error(effects, base), bases - 1))
    return Difference(n, rho, rival_rho, gap, *_interval(gap, errors))


def at_equal_budget(score: Array, rival: Array, target: Array, base: Codes, cell: Codes) -> Difference:
    """The difference of the two correlations inside cells, pooled over the cells where both are defined."""
    a, b = within(cell, base, score, target), within(cell, base, rival, target)
    both, left, right = np.intersect1d(a.code, b.code, return_indices=True)
    inside = np.isin(cell, both)
    if not len(both):
        return Difference(int(inside.sum()))
    shared = within(cell[inside], base[inside], score[inside], rival[inside]).rho
    n = a.n[left]
    weight = n / n.sum()
    rho, rival_rho = float(weight @ a.rho[left]), float(weight @ b.rho[right])
    gap = rho - rival_rho
    freedom = int(n.sum()) - len(both) - 1
    if freedom < 1:
        return Difference(int(n.sum()), rho, rival_rho, gap)
    errors: list[tuple[float, int]] = [(math.sqrt(float((weight**2 * 2 * (1 - shared) / (n - 1)).sum())), freedom)]
    bases, place = np.unique(a.base[left], return_inverse=True)
    if len(bases) >= BASES:
        sums = np.bincount(place, weight * (a.rho[left] - b.rho[right] - gap))
        errors.append((math.sqrt(sums @ sums * len(bases) / (len(bases) - 1)), len(bases) - 1))
    return Difference(int(n.sum()), rho, rival_rho, gap, *_interval(gap, errors))


def _interval(gap: float, errors: list[tuple[float, int]]) -> tuple[float, float, float]:
    """Low, high and p-value by the error that gives the widest; NaN where nothing varies."""
    if not any(error > 1e-12 for error, _ in errors):
        return (math.nan,) * 3
    half = max(t_quantile(freedom) * error for error, freedom in errors)
    p_value = max(t_sided(gap / error, freedom) for error, freedom in errors if error > 1e-12)
    return max(-2.0, gap - half), min(2.0, gap + half), p_value


def row_of(difference: Difference) -> dict[str, Any]:
    """The columns of a difference."""
    return dict(vars(difference))
