"""How well a value repeats when only the seed changes, and the ceiling that this sets on any correlation.

One-way intraclass correlation of ranks over all runs: with B and W the mean squares between and inside configurations,
single = (B - W) / (B + (k - 1) W) is the reliability of one run and mean = (B - W) / B that of a mean over the k seeds,
k the mean number of seeds (n0 of unbalanced designs). Ranks, because scores span decades and the statistics here are
of ranks. Negative estimates are 0. Source: Shrout and Fleiss, ICC(1,1) and ICC(1,k) (1979).

Two noisy columns correlate by at most sqrt(r_score r_target), even if they measure the same thing. Source: Spearman
(1904).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmbench.statistics.correlation import ranks as ranks_of

Array = NDArray[np.float64]
Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Reliability:
    """Reliability of one run and of a mean over seeds; NaN with one seed, or where all runs are equal."""

    single: float = math.nan
    mean: float = math.nan
    seeds: float = math.nan
    configurations: int = 0


def reliability(number: Codes, values: Array) -> Reliability:
    """How well the values of runs repeat from seed to seed; configurations with one run count as well.

    Args:
        number: the configuration of each run, shape (runs,).
        values: of each run, shape (runs,).

    Returns:
        The reliability of one run and of the mean over seeds.
    """
    if not len(values):
        return Reliability()
    _, place, n = np.unique(number, return_inverse=True, return_counts=True)
    groups, runs = len(n), len(values)
    seeds = runs / groups
    if groups < 2 or runs == groups or np.ptp(values) == 0:
        return Reliability(seeds=seeds, configurations=groups)
    ranks = ranks_of(values)
    means = np.bincount(place, ranks) / n
    between = float(n @ (means - ranks.mean()) ** 2) / (groups - 1)
    inside = float(((ranks - means[place]) ** 2).sum()) / (runs - groups)
    k = (runs - float(n @ n) / runs) / (groups - 1)
    if between <= 0:
        return Reliability(0.0, 0.0, seeds, groups)
    single = (between - inside) / (between + (k - 1) * inside)
    return Reliability(max(0.0, single), max(0.0, (between - inside) / between), seeds, groups)


def ceiling(*reliabilities: float) -> float:
    """sqrt of their product: the largest correlation that values of these reliabilities can have."""
    product = math.prod(reliabilities)
    return math.sqrt(product) if product >= 0 else math.nan
