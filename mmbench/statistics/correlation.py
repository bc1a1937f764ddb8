"""Rank correlation of two columns over configurations, and how far it can be trusted.

Everything here takes arrays of finite numbers, one value per configuration.

Spearman's rho and partial rho have the interval and p-value of inference.py. A configuration's influence on them is
known in closed form; the influences are summed inside each base model, so that base models are the unit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special, stats

from mmbench.statistics.inference import Correlation, Null, infer, listable, null_of

Array = NDArray[np.float64]
Codes = NDArray[np.int64]


def ranks(values: Array) -> Array:
    """Ranks from 1, ties by their average: scipy's values, without the overhead of its general function.

    It is called some hundred thousand times, mostly for a few dozen values.

    Returns:
        One rank per value.
    """
    n = len(values)
    order = np.argsort(values, kind="stable")
    in_order = values[order]
    new = np.empty(n, dtype=bool)
    new[:1], new[1:] = True, in_order[1:] != in_order[:-1]
    starts = np.append(np.flatnonzero(new), n)
    middle = (starts[:-1] + starts[1:] + 1) / 2
    result = np.empty(n)
    result[order] = middle[np.cumsum(new) - 1]
    return result


def ranks_within(group: Codes, values: Array) -> Array:
    """Ranks from 1 inside each group (numbered by `group`), ties by their average."""
    n = len(values)
    order = np.lexsort((values, group))
    grouped, in_order = group[order], values[order]
    new_group, new = np.empty(n, dtype=bool), np.empty(n, dtype=bool)
    new_group[:1], new_group[1:] = True, grouped[1:] != grouped[:-1]
    new[:1], new[1:] = True, in_order[1:] != in_order[:-1]
    new |= new_group
    starts = np.append(np.flatnonzero(new), n)
    middle = (starts[:-1] + starts[1:] + 1) / 2
    before = np.flatnonzero(new_group)[np.cumsum(new_group) - 1]
    result = np.empty(n)
    result[order] = middle[np.cumsum(new) - 1] - before
    return result


def spearman(score: Array, target: Array) -> float:
    """Spearman's rho, ties by average rank; NaN for fewer than 3 values or a constant side."""
    if len(score) < 3 or np.ptp(score) == 0 or np.ptp(target) == 0:
        return math.nan
    return _pearson(ranks(score), ranks(target))


def spearman_interval(score: Array, target: Array, base: Codes) -> Correlation:
    """Spearman's rho over all configurations, with its interval and p-value; see inference.py.

    Args:
        score: of each configuration, shape (n,).
        target: of each configuration, shape (n,).
        base: the number of each configuration's base model, shape (n,).

    Returns:
        rho, interval and p-value; rho alone for fewer than 4 configurations.
    """
    rho = spearman(score, target)
    if math.isnan(rho):
        return Correlation()
    sizes = np.array([len(score)])
    null = null_of(sizes, [(ranks(score), ranks(target))] if listable(sizes) else (), log_ties(target))
    return infer(rho, null, *units(influence(score, target), base, alone=null.values is None))


def log_ties(*columns: Array) -> float:
    """The sum over all groups of t equal values of log t!, over all columns."""
    counts = np.concatenate([np.unique(values, return_counts=True)[1] for values in columns])
    return float(special.gammaln(counts + 1).sum())


def influence(score: Array, target: Array) -> Array:
    """Each configuration's influence on Spearman's rho; the mean is 0, the variance of rho about sum(square) / n^2.

    With mid-distribution values a = F(x) - 1/2, b = G(y) - 1/2 and c(a, b) = mean(a b), rho = c(a, b) / sqrt(c(a, a)
    c(b, b)). The influence on c(a, b) is a b + A + B - 3 c(a, b), where A_i = mean_j(h(x_i, x_j) b_j), h = 1 for x_j
    above x_i and 1/2 for ties: shifting one point moves the ranks of all others. Source: Hoeffding (1948); Borkowf,
    Computational Statistics and Data Analysis 39 (2002).

    Returns:
        One influence per configuration, shape (n,).
    """
    n = len(score)
    x, y = (np.unique(values, return_inverse=True)[1] for values in (score, target))
    a, b = (_above(place, np.full(n, -1.0)) + 0.5 for place in (x, y))
    xy, xx, yy = a @ b / n, a @ a / n, b @ b / n
    of_xy = a * b + _above(x, b) + _above(y, a) - 3 * xy
    of_xx, of_yy = a * a + 2 * _above(x, a) - 3 * xx, b * b + 2 * _above(y, b) - 3 * yy
    return (of_xy - xy / 2 * (of_xx / xx + of_yy / yy)) / math.sqrt(xx * yy)


def units(effects: Array, base: Codes, alone: bool) -> tuple[Array, Array, str]:
    """What each independent unit contributes to a correlation, given the influences of its configurations.

    Args:
        effects: the influence of each configuration, shape (n,).
        base: the number of each configuration's base model, shape (n,).
        alone: whether configurations are units where there is one base model.

    Returns:
        Contributions, weights (both of shape (units,)) and the unit, as `infer` takes them.
    """
    n = len(effects)
    bases, place, counts = np.unique(base, return_inverse=True, return_counts=True)
    if len(bases) == 1 and alone:
        return effects / n, np.full(n, 1 / n), "configurations"
    return np.bincount(place, effects) / n, counts / n, "base models"


def kendall_interval(score: Array, target: Array, like: Correlation) -> Correlation:
    """Kendall's tau-b with the interval tanh(atanh tau +- 1.96 sqrt(0.437 / (n - 4))), widened like that of rho.

    NaN for fewer than 5 configurations or |tau| = 1. Source: Fieller, Hartley and Pearson, Biometrika 44 (1957). tau
    and rho of one sample are nearly the same statistic, so dependence inside base models widens both alike.

    Args:
        score: of each configuration, shape (n,).
        target: of each configuration, shape (n,).
        like: Spearman's rho of the same values, whose widening is used.

    Returns:
        tau and its interval; no p-value.
    """
    if math.isnan(like.rho):
        return Correlation()
    tau, n = kendall(score, target), len(score)
    if n < 5 or not abs(tau) < 1:
        return Correlation(tau)
    half = 1.96 * math.sqrt(0.437 / (n - 4)) * like.widening
    return Correlation(tau, math.tanh(math.atanh(tau) - half), math.tanh(math.atanh(tau) + half))


def kendall(score: Array, target: Array) -> float:
    """Kendall's tau-b: concordant less discordant pairs, over the geometric mean of the pairs untied on either side."""
    if len(score) > 128:  # scipy is faster for many values; for few, its overhead is larger than comparing all
        return float(stats.kendalltau(score, target, variant="b").statistic)
    up, gain = (np.sign(values[:, None] - values).ravel() for values in (score, target))
    untied = math.sqrt(float(up @ up) * float(gain @ gain))
    return float(np.clip(up @ gain / untied, -1, 1)) if untied else math.nan


def bonett_wright(rho: float, n: int) -> tuple[float, float]:
    """The 95 % interval of Spearman's rho over n configurations: tanh(atanh rho +- 1.96 sqrt((1 + rho^2/2) / (n - 3))).

    It needs no data: it shows how much n configurations can say at best. Source: Bonett and Wright, Psychometrika 65
    (2000).

    Returns:
        Both ends; NaN for n < 4 and for |rho| = 1, where the formula has no value.
    """
    if n < 4 or not abs(rho) < 1:
        return math.nan, math.nan
    half = 1.96 * math.sqrt((1 + rho**2 / 2) / (n - 3))
    return math.tanh(math.atanh(rho) - half), math.tanh(math.atanh(rho) + half)


def partial_interval(score: Array, target: Array, controls: Sequence[Array], base: Codes) -> Correlation:
    """Partial Spearman's rho of score and target given the controls, with its interval.

    Ranks of score and target are regressed on those of the controls; the residuals are correlated. Configurations that
    lack a control are left out, controls that are constant are dropped. Source: Kendall (1942), on ranks; the interval
    takes the ranks as given.

    Args:
        score: of each configuration, shape (n,).
        target: of each configuration, shape (n,).
        controls: what is held fixed, each of shape (n,).
        base: the number of each configuration's base model, shape (n,).

    Returns:
        rho, interval and p-value; NaN for fewer configurations than controls + 3, and where the controls explain the
        score or the target completely.
    """
    known = np.isfinite(np.vstack([score, target, *controls])).all(axis=0)
    kept = [values[known] for values in controls if known.any() and np.ptp(values[known]) > 0]
    n = int(known.sum())
    if n < len(kept) + 3:
        return Correlation()
    design = np.column_stack([np.ones(n), *map(ranks, kept)])
    both = np.column_stack([ranks(score[known]), ranks(target[known])])
    left = both - design @ np.linalg.lstsq(design, both)[0]
    norms = np.linalg.norm(left, axis=0)
    if (norms <= 1e-9 * np.linalg.norm(both, axis=0)).any():
        return Correlation()
    e, f = (left / norms).T
    rho, freedom = float(np.clip(e @ f, -1, 1)), n - 2 - len(kept)
    if abs(rho) > 1 - 1e-12 or freedom < 2:
        return Correlation(rho)
    effects = n * (e * f - rho / 2 * (e * e + f * f))
    return infer(rho, Null(1 / (freedom + 1)), *units(effects, base[known], alone=True))


def false_discovery_rate(p_values: pd.Series) -> pd.Series:
    """p-values after Benjamini and Hochberg (1995): the false discovery rate at which each would be a discovery."""
    known = p_values.notna()
    q_values = pd.Series(np.nan, index=p_values.index, dtype="float64")
    if known.any():
        q_values[known] = stats.false_discovery_control(p_values[known].to_numpy(dtype=float), method="bh")
    return q_values


def _pearson(x: Array, y: Array) -> float:
    x, y = x - x.mean(), y - y.mean()
    rho = float(x @ y / math.sqrt((x @ x) * (y @ y)))
    # A perfect order must stay perfect despite rounding: it has no interval.
    return math.copysign(1.0, rho) if abs(rho) > 1 - 1e-12 else rho


def _above(place: Codes, weights: Array) -> Array:
    """mean_j(h(v_i, v_j) w_j): the weight above each value plus half of that at ties, over n; `place` is its rank."""
    sums = np.bincount(place, weights)
    return (sums[::-1].cumsum()[::-1] - sums / 2)[place] / len(place)
