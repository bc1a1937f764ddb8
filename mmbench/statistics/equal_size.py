"""Rank correlation inside cells of equal size, averaged: what a score says beyond the size of a network.

rho_k is Spearman's rho inside cell k of n_k configurations; their mean is rho = sum(n_k rho_k) / N, N = sum(n_k).

* interval and p-value: of inference.py, with the cells of one base model added up.
* heterogeneity: I^2 = max(0, 1 - (K - 1) / Q), Q = sum((rho_k - mean)^2 / v_k), v_k = (1 - rho^2)^2
  (1 + rho^2 / 2) / (n_k - 1), mean with weights 1 / v_k. Sources: Cochran (1954), Higgins and Thompson (2002); the
  variance is Bonett and Wright's (2000) with the permutation's n - 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mmbench.statistics.correlation import log_ties, ranks_within
from mmbench.statistics.inference import Correlation, infer, listable, null_of

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
    ranks: list[tuple[Array, Array]] = field(default_factory=list)
    """Of score and target in each cell, less their mean; none where there are too many permutations to list."""
    log_ties: float = 0.0
    """See `null_of`."""


@dataclass(frozen=True)
class MeanCorrelation:
    """The mean of the cells' correlations, with its heterogeneity; NaN where undefined."""

    mean: Correlation = field(default_factory=Correlation)
    i2: float = math.nan
    cells: int = 0
    n: int = 0
    bases: int = 0


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
    pairs = []
    if listable(n[kept]):
        pairs = [(a[place == one], b[place == one]) for one in np.flatnonzero(kept)]
    # Inside a cell, ranks differ from cell to cell by less than n: a shift by 2 n keeps the cells' values apart.
    ties = log_ties((b + 2 * len(cell) * place)[kept[place]]) if kept.any() else 0.0
    return CellCorrelations(codes[kept], base[first[kept]], n[kept], rho, pairs, ties)


def mean_over_cells(cells: CellCorrelations) -> MeanCorrelation:
    """The mean of the cells' correlations with weights n, its interval, p-value and heterogeneity."""
    k, n = len(cells.n), int(cells.n.sum())
    if k == 0:
        return MeanCorrelation()
    weight = cells.n / n
    rho = float(np.clip(weight @ cells.rho, -1, 1))
    rho = math.copysign(1.0, rho) if abs(rho) > 1 - 1e-12 else rho
    _, place = np.unique(cells.base, return_inverse=True)
    each = weight * (cells.rho - rho)
    contributions, weights = (np.bincount(place, values).astype(float) for values in (each, weight))
    mean = infer(rho, null_of(cells.n, cells.ranks, cells.log_ties), contributions, weights)
    i2 = _heterogeneity(cells, rho) if abs(rho) < 1 else math.nan
    return MeanCorrelation(mean, i2, k, n, len(weights))


def _heterogeneity(cells: CellCorrelations, rho: float) -> float:
    if len(cells.n) < 2:
        return math.nan
    precision = (cells.n - 1) / ((1 - rho**2) ** 2 * (1 + rho**2 / 2))
    mean = precision @ cells.rho / precision.sum()
    q = float(precision @ (cells.rho - mean) ** 2)
    return max(0.0, 1 - (len(cells.n) - 1) / q) if q > 0 else 0.0
