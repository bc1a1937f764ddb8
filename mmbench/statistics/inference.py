"""One inference for every rank correlation: its interval and its p-value follow from the same two tests.

The correlation rho may be of one sample, or the mean of several cells with weights n_k.

1. If score and target are unrelated inside cells, rho has the variance v = sum(w_k^2 / (n_k - 1)) under permutation,
   ties or not. The p-value is exact where all permutations can be listed (`EXACT` of them); else rho is tested by
   Student's t with 1 / v - 1 degrees of freedom, as a correlation of 1 / v + 1 values. The interval is
   tanh(atanh rho +- c sqrt((1 + rho^2 / 2) v)); c is chosen so that it excludes 0 exactly where p < 0.05. Sources:
   Fisher (1915); Bonett and Wright, Psychometrika 65 (2000).
2. Configurations of one base model are not independent: they share its weights, its data and its luck. With two base
   models or more, the contributions u_b of the base models to rho (w_b (rho_b - rho), or the influences of their
   configurations) give the error s^2 = sum((u_b / (1 - w_b))^2), which is the jackknife's, and the interval
   tanh(atanh rho +- t s / (1 - rho^2)) with 1 / sum(w_b^2) - 1 degrees of freedom: fewer if one base model has most of
   the configurations. With one base model, the configurations themselves take the place of base models here, where
   permutations are too many to list: extremes that come together make rho vary more than under normal tails.

The reported interval is the union of the two, the reported p-value the larger one. So p < 0.05 where, and only where,
the interval excludes 0. With one base model it holds for other expansions of this base model only.
benchmarks/coverage.py measures how often the intervals contain the truth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.float64]
Codes = NDArray[np.int64]

LEVEL = 0.95
"""The confidence level of all intervals."""
EXACT = 50_000
"""The most permutations that are listed."""
_TIE = 1e-9


@dataclass(frozen=True)
class Correlation:
    """A correlation with its interval; NaN where undefined."""

    rho: float = math.nan
    low: float = math.nan
    high: float = math.nan
    p_value: float = math.nan
    unit: str = ""
    """What the interval takes as independent: `configurations`, `base models`, or `` if there is none."""
    widening: float = 1.0
    """Half-width on the atanh scale, relative to that for independent configurations."""


@dataclass(frozen=True)
class Null:
    """What rho is if score and target are unrelated inside cells: its variance, and all its values if they are few."""

    variance: float
    values: Array | None = None
    """|rho| of every permutation, sorted."""
    perfect: float = 0.0
    """The p-value of |rho| = 1; ties allow more permutations to reach it."""

    def p_value(self, rho: float) -> float:
        """The share of permutations with at least this |rho|."""
        if self.values is not None:
            reached = np.searchsorted(self.values, abs(rho) - _TIE)
            return 1 - float(reached) / len(self.values)
        if abs(rho) == 1:
            return self.perfect
        freedom = 1 / self.variance - 1
        return t_sided(rho * math.sqrt(freedom / (1 - rho**2)), freedom)

    def half_width(self, rho: float) -> float:
        """The half-width of the interval on the atanh scale; infinite if not even |rho| = 1 has p < 0.05."""
        if self.values is not None:
            # The largest |rho| that is not significant lies on the edge: its interval still touches 0.
            edge = float(self.values[math.floor(LEVEL * len(self.values) + _TIE)]) + _TIE
        else:
            freedom = 1 / self.variance - 1
            t = t_quantile(freedom)
            edge = t / math.sqrt(freedom + t * t)
        if edge >= 1:
            return math.inf
        return math.atanh(edge) * math.sqrt((1 + rho**2 / 2) / (1 + edge**2 / 2))


def listable(sizes: Codes) -> bool:
    """Whether all permutations inside cells of these sizes can be listed."""
    return sum(math.lgamma(n + 1) for n in sizes) <= math.log(EXACT)


def null_of(sizes: Codes, samples: Sequence[tuple[Array, Array]] = (), log_ties: float = 0.0) -> Null:
    """The null distribution of the mean correlation of cells, weighted by their numbers of configurations.

    Args:
        sizes: configurations of each cell, shape (cells,).
        samples: ranks of score and target in each cell, both of shape (n_k,) and neither constant; needed only where
            `listable`.
        log_ties: sum over all groups of t tied targets of log t!.

    Returns:
        The variance, and all values of |rho| if samples are given.
    """
    weights = sizes / sizes.sum()
    variance = float((weights**2 / (sizes - 1)).sum())
    perfect = min(1.0, 2 * math.exp(log_ties - sum(math.lgamma(n + 1) for n in sizes)))
    if not samples:
        return Null(variance, perfect=perfect)
    total = np.zeros(1)
    for weight, (score, target) in zip(weights, samples, strict=True):
        total = (total[:, None] + weight * _all_correlations(score.tobytes(), target.tobytes())).ravel()
    return Null(variance, np.sort(np.abs(total)))


@lru_cache(maxsize=256)
def _all_correlations(score: bytes, target: bytes) -> Array:
    """Pearson's correlation of two columns under every permutation of the second."""
    x, y = (np.frombuffer(values, dtype=float) for values in (score, target))
    x, y = x - x.mean(), y - y.mean()
    return y[_orders(len(y))] @ x / math.sqrt((x @ x) * (y @ y))


@lru_cache(maxsize=8)
def _orders(n: int) -> Codes:
    return np.array(list(permutations(range(n))), dtype=np.int64)


def infer(rho: float, null: Null, contributions: Array, weights: Array, unit: str = "base models") -> Correlation:
    """The interval and p-value of a correlation; see the head of this file.

    Args:
        rho: the correlation, in [-1, 1].
        null: its distribution if score and target are unrelated.
        contributions: u_b of each unit to rho, which sum to 0; shape (units,).
        weights: w_b, the units' shares of the configurations; shape (units,).
        unit: what they are.

    Returns:
        rho, interval and p-value; none if rho is of fewer than 4 independent values.
    """
    if null.variance > 1 / 2.999:
        return Correlation(rho)
    if abs(rho) == 1:
        return _perfect(rho, null)
    z, slope = math.atanh(rho), 1 - rho**2
    p_value, half, widening = null.p_value(rho), null.half_width(rho), 1.0
    if len(weights) < 2:
        unit = "configurations"
    else:
        freedom = 1 / float(weights @ weights) - 1
        error = math.sqrt(float(((contributions / (1 - weights)) ** 2).sum())) / slope
        wider = t_quantile(freedom) * error
        if error > 0:
            p_value = max(p_value, t_sided(z / error, freedom))
        if wider > half > 0:
            half, widening = wider, wider / half
    return Correlation(rho, math.tanh(z - half), math.tanh(z + half), p_value, unit, widening)


def _perfect(rho: float, null: Null) -> Correlation:
    """The same for |rho| = 1, which has no finite atanh: the interval of a rho half a step of the ranks below, up to 1.

    Returns:
        As `infer`. The next possible rho of n values without ties is 1 - 12 / (n^3 - n); ties make n smaller.
    """
    p_value = null.p_value(rho)
    n = _untied(p_value)
    if n < 4:
        return Correlation(rho, -1.0, 1.0, p_value, "configurations")
    below = 1 - 6 / (n**3 - n)
    end = math.tanh(math.atanh(below) - Null(1 / (n - 1)).half_width(below))
    end = max(end, _TIE) if p_value < 1 - LEVEL else min(end, 0.0)
    low, high = sorted((rho * end, rho))
    return Correlation(rho, low, high, p_value, "configurations")


def _untied(p_value: float) -> float:
    """How many values without ties have this p-value at |rho| = 1: n! = 2 / p."""
    low, high = 1.0, 200.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if math.lgamma(middle + 1) < math.log(2 / p_value) else (low, middle)
    return round(high, 6)


def t_quantile(freedom: float) -> float:
    """The half-width of an interval in standard errors, by Student's t."""
    return float(special.stdtrit(freedom, (1 + LEVEL) / 2))


def t_sided(t: float, freedom: float) -> float:
    """Two-sided p-value of Student's t."""
    return float(2 * special.stdtr(freedom, -abs(t)))
