"""Rank correlation of two columns over configurations, and how far it can be trusted.

Everything here takes arrays of finite numbers, one value per configuration.

Intervals are of the linearised statistic: each configuration's influence on rho is known in closed form, the sum of
their squares gives the variance, and the interval is tanh(atanh rho +- t s / (1 - rho^2)). Configurations of one base
model are not independent (they share its weights, its data and its luck). With `MIN_BASES` base models or more, the
influences are therefore summed inside each base model before they are squared, with Student's t of (base models - 1);
the wider of the two intervals is reported. With fewer base models the interval treats configurations as independent,
and holds for other expansions of these base models only. Bonett and Wright's formula (2000), which treats
configurations as independent and normal, covers the truth in 95 % of samples where they are, in 91 to 94 % for heavy
tails (ours 94 to 95 %), and in 68 to 77 % where half of the variance is the base model's (ours 94 to 97 %):
benchmarks/coverage.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special, stats

Array = NDArray[np.float64]
Codes = NDArray[np.int64]

LEVEL = 0.95
"""The confidence level of all intervals."""
MIN_BASES = 3
"""With at least this many base models, an interval treats base models as independent; else configurations."""


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


def t_quantile(freedom: int) -> float:
    """The half-width of an interval in standard errors, by Student's t."""
    return float(special.stdtrit(freedom, (1 + LEVEL) / 2))


def t_sided(t: float, freedom: int) -> float:
    """The two-sided p-value of Student's t."""
    return float(2 * special.stdtr(freedom, -abs(t)))


def spearman(score: Array, target: Array) -> float:
    """Spearman's rho, ties by average rank; NaN for fewer than 3 values or a constant side."""
    if len(score) < 3 or np.ptp(score) == 0 or np.ptp(target) == 0:
        return math.nan
    return _pearson(ranks(score), ranks(target))


def spearman_interval(score: Array, target: Array, base: Codes) -> Correlation:
    """Spearman's rho with its 95 % interval and p-value; base models count as clusters (see the head of this file).

    p_value is Student's t for rho, an approximation for independent configurations; with `MIN_BASES` base models or
    more, the larger of that and of the clustered one. Both are NaN for fewer than 4 configurations; the interval also
    for |rho| = 1, where the linearised variance says nothing.

    Args:
        score: of each configuration, shape (n,).
        target: of each configuration, shape (n,).
        base: the number of each configuration's base model, shape (n,).

    Returns:
        rho, interval and p-value.
    """
    rho, n = spearman(score, target), len(score)
    if math.isnan(rho) or n < 4:
        return Correlation(rho)
    p_value = t_test(rho, n - 2)
    if abs(rho) == 1:
        return Correlation(rho, p_value=p_value)
    return interval_of(rho, influence(score, target), base, n - 2, p_value)


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


def interval_of(rho: float, effects: Array, base: Codes, freedom: int, p_value: float) -> Correlation:
    """The interval of a correlation whose influences are known; see the head of this file.

    Args:
        rho: the correlation, inside (-1, 1).
        effects: the influence of each configuration on it, shape (n,).
        base: the number of each configuration's base model, shape (n,).
        freedom: degrees of freedom where configurations are independent.
        p_value: of the test that treats configurations as independent; the larger p-value is returned.

    Returns:
        rho, interval and p-value.
    """
    z, slope = math.atanh(rho), 1 - rho**2
    half = t_quantile(freedom) * standard_error(effects, None) / slope
    unit, widening = "configurations", 1.0
    bases = len(np.unique(base))
    if bases >= MIN_BASES:
        clustered = standard_error(effects, base) / slope
        wider = t_quantile(bases - 1) * clustered
        if clustered > 0:
            p_value = max(p_value, t_sided(z / clustered, bases - 1))
        if wider > half > 0:
            half, widening = wider, wider / half
        unit = "base models"
    return Correlation(rho, math.tanh(z - half), math.tanh(z + half), p_value, unit, widening)


def standard_error(effects: Array, base: Codes | None) -> float:
    """sqrt(m / (m - 1) sum(s^2)) / n over m independent sums s of influences: of configurations, or of base models."""
    sums = effects if base is None else np.bincount(np.unique(base, return_inverse=True)[1], effects)
    return math.sqrt(sums @ sums * len(sums) / max(len(sums) - 1, 1)) / len(effects)


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
    return interval_of(rho, effects, base[known], freedom, t_test(rho, freedom))


def t_test(rho: float, freedom: int) -> float:
    """Two-sided p-value of a correlation from Student's t: rho sqrt(freedom / (1 - rho^2)). Source: Fisher (1915)."""
    if abs(rho) == 1:
        return 0.0
    return t_sided(rho * math.sqrt(freedom / (1 - rho**2)), freedom)


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
