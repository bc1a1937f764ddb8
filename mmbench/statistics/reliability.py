"""How well a value repeats when only the seed changes, and the ceiling that this sets on any correlation.

What can be chosen is an expansion of a given base model. So the reliability is that of the order of expansions inside a
base model; a seed that shifts all of them alike does not disturb it. It is the intraclass correlation ICC(C,1) of the
two-way table configuration x seed of each base model: with R the mean square between configurations (the seeds' effects
taken out) and E that of the residuals, (R - E) / (R + (k - 1) E), k seeds. Its mean over base models, weighted by their
configurations, is `single`; `mean` = k single / (1 + (k - 1) single) is that of a mean over k seeds, ICC(C,k). Negative
estimates are 0. Seeds that no configuration connects make tables of their own. Missing seeds are allowed: the table is
then fitted by least squares. Sources: McGraw and Wong (1996); Spearman (1910); Brown (1910).

Two noisy columns correlate by at most sqrt(r_score r_target), even if they measure the same thing. Source: Spearman
(1904).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mmbench.statistics.seed_luck import additive

Array = NDArray[np.float64]
Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Reliability:
    """Reliability of one run and of a mean over seeds; NaN with one seed, or where all runs are equal."""

    single: float = math.nan
    mean: float = math.nan
    seeds: float = math.nan
    configurations: int = 0


def reliability(number: Codes, seed: Codes, base: Codes, values: Array) -> Reliability:
    """How well the order of configurations inside base models repeats from seed to seed.

    Args:
        number: the configuration of each run, shape (runs,).
        seed: of each run, shape (runs,).
        base: the base model (not the trained one) of each run, shape (runs,).
        values: of each run, shape (runs,).

    Returns:
        The reliability of one run and of the mean over seeds.
    """
    if not len(values):
        return Reliability()
    configurations = len(np.unique(number))
    seeds = len(values) / configurations
    found = []
    for one in np.unique(connected := _connected(number, seed, base)):
        inside = connected == one
        rows, place = np.unique(number[inside], return_inverse=True)
        single = consistency(place, np.unique(seed[inside], return_inverse=True)[1], values[inside])
        if not math.isnan(single):
            found.append((len(rows), single))
    if not found:
        return Reliability(seeds=seeds, configurations=configurations)
    weights, singles = np.array(found).T
    single = max(0.0, float(weights @ singles / weights.sum()))
    return Reliability(single, seeds * single / (1 + (seeds - 1) * single), seeds, configurations)


def _connected(number: Codes, seed: Codes, base: Codes) -> Codes:
    """The part of each run, a number: runs that a chain of shared configurations and seeds connects are in one part."""
    # Nothing tells the luck of seeds apart that no configuration shares with others, so each part is a table.
    rows = np.unique(number, return_inverse=True)[1]
    columns = np.unique(np.stack([base, seed]), axis=1, return_inverse=True)[1].ravel()
    nodes = int(rows.max()) + int(columns.max()) + 2
    links = coo_array((np.ones(len(rows)), (rows, rows.max() + 1 + columns)), shape=(nodes, nodes))
    parts: Codes = connected_components(links, directed=False)[1][rows].astype(np.int64)
    return parts


def consistency(row: Codes, column: Codes, values: Array) -> float:
    """ICC(C,1) of one table, complete or not; NaN where it has no residuals or does not vary.

    Args:
        row: the configuration of each value from 0, shape (n,).
        column: the seed of each value from 0, shape (n,).
        values: shape (n,).

    Returns:
        The intraclass correlation, at most 1; -1 / (k - 1) or above for a complete table of k seeds.
    """
    n, rows, columns = len(values), int(row.max()) + 1, int(column.max()) + 1
    freedom = n - rows - columns + 1
    if rows < 2 or freedom < 1 or np.ptp(values) <= 1e-12 * np.abs(values).max():
        return math.nan
    shifted = values - additive(row, column, values)[column]
    counts = np.bincount(row)
    residual = float(((shifted - (np.bincount(row, shifted) / counts)[row]) ** 2).sum())
    by_column = values - (np.bincount(column, values) / np.bincount(column))[column]
    between = (float(by_column @ by_column) - residual) / (rows - 1)
    inside, k = residual / freedom, (n - float(counts @ counts) / n) / (rows - 1)
    total = between + (k - 1) * inside
    return (between - inside) / total if total > 0 else math.nan


def ceiling(*reliabilities: float) -> float:
    """sqrt of their product: the largest correlation that values of these reliabilities can have."""
    product = math.prod(reliabilities)
    return math.sqrt(product) if product >= 0 else math.nan
