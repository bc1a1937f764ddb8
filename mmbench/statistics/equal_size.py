"""Rank correlation inside cells of equal size, pooled: what a score knows beyond how large a network is.

rho_k is Spearman's rho inside cell k of n_k configurations; pooled is sum(n_k rho_k) / sum(n_k).

* p_value: if score and target are unrelated inside cells, rho_k has exactly the variance 1 / (n_k - 1) under
  permutation, ties or not, so pooled / sqrt(sum(n_k^2 / (n_k - 1)) / N^2) is about standard normal.
* interval: tanh(atanh pooled +- t sqrt((1 + pooled^2 / 2) sum(n_k^2 / (n_k - 1)) / N^2)) with N - K - 1 degrees of
  freedom; from three base models on also that of the spread of the base models' own pooled values, which contains
  whatever differs between them; the wider counts, and the larger p-value.
* heterogeneity: I^2 = max(0, 1 - (K - 1) / Q), Q = sum((rho_k - mean)^2 / v_k), v_k = (1 - pooled^2)^2
  (1 + pooled^2 / 2) / (n_k - 1), mean with weights 1 / v_k. Sources: Cochran (1954), Higgins and Thompson (2002); the
  variance is Bonett and Wright's (2000) with the permutation's n - 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from mmbench.statistics.correlation import BASES
from mmbench.statistics.ranks import ranks_within, t_quantile, t_sided

Array = NDArray[np.float64]
Codes = NDArray[np.int64]

LEAST = 3
"""Configurations from which on a cell has a correlation."""


@dataclass(frozen=True)
class Cells:
    """The cells that have a correlation: their number, base model, configurations and Spearman's rho."""

    code: Codes
    base: Codes
    n: Codes
    rho: Array


@dataclass(frozen=True)
class Pooled:
    """The pooled correlation; NaN where undefined."""

    rho: float = math.nan
    low: float = math.nan
    high: float = math.nan
    p_value: float = math.nan
    i2: float = math.nan
    cells: int = 0
    n: int = 0


def within(cell: Codes, base: Codes, score: Array, target: Array) -> Cells:
    """Spearman's rho inside each cell of at least 3 configurations and no constant side; code -1 is no cell."""
    inside = cell >= 0
    cell, base, score, target = cell[inside], base[inside], score[inside], target[inside]
    codes, first, place, n = np.unique(cell, return_index=True, return_inverse=True, return_counts=True)
    a, b = (ranks_within(place, values) - (n[place] + 1) / 2 for values in (score, target))
    size = len(codes)
    xy, xx, yy = (np.bincount(place, product, size) for product in (a * b, a * a, b * b))
    kept = (n >= LEAST) & (xx > 0) & (yy > 0)
    rho = np.clip(xy[kept] / np.sqrt(xx[kept] * yy[kept]), -1, 1)
    rho = np.where(np.abs(rho) > 1 - 1e-12, np.sign(rho), rho)
    return Cells(codes[kept], base[first[kept]], n[kept], rho)


def pool(cells: Cells) -> Pooled:
    """The mean of the cells' correlations with weights n, its interval, p-value and heterogeneity."""
    k, n = len(cells.n), int(cells.n.sum())
    if k == 0:
        return Pooled()
    weight = cells.n / n
    rho = float(weight @ cells.rho)
    null = math.sqrt(float((weight**2 / (cells.n - 1)).sum()))
    p_value = float(2 * special.ndtr(-abs(rho) / null))
    if not abs(rho) < 1 - 1e-12 or n - k - 1 < 1:
        return Pooled(rho, p_value=p_value, cells=k, n=n)
    half = t_quantile(n - k - 1) * math.sqrt(1 + rho**2 / 2) * null
    bases, place = np.unique(cells.base, return_inverse=True)
    if len(bases) >= BASES:
        sums = np.bincount(place, weight * (cells.rho - rho))
        error = math.sqrt(sums @ sums * len(bases) / (len(bases) - 1)) / (1 - rho**2)
        half = max(half, t_quantile(len(bases) - 1) * error)
        if error > 0:
            p_value = max(p_value, t_sided(math.atanh(rho) / error, len(bases) - 1))
    z = math.atanh(rho)
    return Pooled(rho, math.tanh(z - half), math.tanh(z + half), p_value, _heterogeneity(cells, rho), k, n)


def _heterogeneity(cells: Cells, rho: float) -> float:
    if len(cells.n) < 2:
        return math.nan
    precision = (cells.n - 1) / ((1 - rho**2) ** 2 * (1 + rho**2 / 2))
    mean = precision @ cells.rho / precision.sum()
    q = float(precision @ (cells.rho - mean) ** 2)
    return max(0.0, 1 - (len(cells.n) - 1) / q) if q > 0 else 0.0
