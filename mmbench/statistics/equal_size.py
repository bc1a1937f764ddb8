"""Rank correlation inside cells of equal size, averaged: what a score says beyond the size of a network.

rho_k is Spearman's rho inside cell k of n_k configurations; their mean is rho = sum(n_k rho_k) / N, N = sum(n_k).

* p_value: if score and target are unrelated inside cells, rho_k has exactly the variance 1 / (n_k - 1) under
  permutation, ties or not, so rho / sqrt(sum(n_k^2 / (n_k - 1)) / N^2) is about standard normal.
* interval: tanh(atanh rho +- t sqrt((1 + rho^2 / 2) sum(n_k^2 / (n_k - 1)) / N^2)) with N - K - 1 degrees of freedom
  for K cells. With three base models or more, also the interval from the spread of the base models' own means, which
  includes all differences between them; the wider interval and the larger p-value count.
* heterogeneity: I^2 = max(0, 1 - (K - 1) / Q), Q = sum((rho_k - mean)^2 / v_k), v_k = (1 - rho^2)^2
  (1 + rho^2 / 2) / (n_k - 1), mean with weights 1 / v_k. Sources: Cochran (1954), Higgins and Thompson (2002); the
  variance is Bonett and Wright's (2000) with the permutation's n - 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from mmbench.statistics.correlation import MIN_BASES, ranks_within, t_quantile, t_sided

Array = NDArray[np.float64]
Codes = NDArray[np.int64]

MIN_CONFIGURATIONS = 3
"""A cell with fewer has no correlation."""


@dataclass(frozen=True)
class CellCorrelations:
    """Spearman's rho of each cell that has one, with the cell's number, base model and number of configurations."""

    code: Codes
    base: Codes
    n: Codes
    rho: Array


@dataclass(frozen=True)
class MeanCorrelation:
    """The mean of the cells' correlations; NaN where undefined."""

    rho: float = math.nan
    low: float = math.nan
    high: float = math.nan
    p_value: float = math.nan
    i2: float = math.nan
    cells: int = 0
    n: int = 0


def correlate_cells(cell: Codes, base: Codes, score: Array, target: Array) -> CellCorrelations:
    """Spearman's rho inside each cell of at least 3 configurations where neither side is constant.

    Args:
        cell: the number of each configuration's cell, shape (n,); -1 for none.
        base: the number of each configuration's base model, shape (n,).
        score: of each configuration, shape (n,).
        target: of each configuration, shape (n,).

    Returns:
        One entry per cell that has a correlation, by number.
    """
    inside = cell >= 0
    cell, base, score, target = cell[inside], base[inside], score[inside], target[inside]
    codes, first, place, n = np.unique(cell, return_index=True, return_inverse=True, return_counts=True)
    a, b = (ranks_within(place, values) - (n[place] + 1) / 2 for values in (score, target))
    size = len(codes)
    xy, xx, yy = (np.bincount(place, product, size) for product in (a * b, a * a, b * b))
    kept = (n >= MIN_CONFIGURATIONS) & (xx > 0) & (yy > 0)
    rho = np.clip(xy[kept] / np.sqrt(xx[kept] * yy[kept]), -1, 1)
    rho = np.where(np.abs(rho) > 1 - 1e-12, np.sign(rho), rho)
    return CellCorrelations(codes[kept], base[first[kept]], n[kept], rho)


def mean_over_cells(cells: CellCorrelations) -> MeanCorrelation:
    """The mean of the cells' correlations with weights n, its interval, p-value and heterogeneity."""
    k, n = len(cells.n), int(cells.n.sum())
    if k == 0:
        return MeanCorrelation()
    weight = cells.n / n
    rho = float(weight @ cells.rho)
    null = math.sqrt(float((weight**2 / (cells.n - 1)).sum()))
    p_value = float(2 * special.ndtr(-abs(rho) / null))
    if not abs(rho) < 1 - 1e-12 or n - k - 1 < 1:
        return MeanCorrelation(rho, p_value=p_value, cells=k, n=n)
    half = t_quantile(n - k - 1) * math.sqrt(1 + rho**2 / 2) * null
    bases, place = np.unique(cells.base, return_inverse=True)
    if len(bases) >= MIN_BASES:
        sums = np.bincount(place, weight * (cells.rho - rho))
        error = math.sqrt(sums @ sums * len(bases) / (len(bases) - 1)) / (1 - rho**2)
        half = max(half, t_quantile(len(bases) - 1) * error)
        if error > 0:
            p_value = max(p_value, t_sided(math.atanh(rho) / error, len(bases) - 1))
    z = math.atanh(rho)
    return MeanCorrelation(rho, math.tanh(z - half), math.tanh(z + half), p_value, _heterogeneity(cells, rho), k, n)


def _heterogeneity(cells: CellCorrelations, rho: float) -> float:
    if len(cells.n) < 2:
        return math.nan
    precision = (cells.n - 1) / ((1 - rho**2) ** 2 * (1 + rho**2 / 2))
    mean = precision @ cells.rho / precision.sum()
    q = float(precision @ (cells.rho - mean) ** 2)
    return max(0.0, 1 - (len(cells.n) - 1) / q) if q > 0 else 0.0
