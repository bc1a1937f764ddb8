"""Whether one metric ranks better than another, on the configurations that both have.

Both correlations are multiplied by their expected signs, so that a positive one agrees with theory. Their difference is
paired: the configurations and targets are the same, so most of the noise cancels.

* spearman: the influence of a configuration on rho_1 - rho_2 is the difference of its influences.
* within_base_spearman, equal_budget_spearman: inside a cell, if the target is unrelated to both scores, rho_1 - rho_2
  has exactly the variance 2 (1 - r) / (n - 1) under permutation, r being the correlation of the two scores. The
  differences are averaged with weights n.

Interval and p-value are Student's t, without atanh (a difference is not bounded where its parts are). With two base
models or more, their spread counts as in inference.py if it gives the wider interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmbench.statistics.controls import SECOND
from mmbench.statistics.correlation import false_discovery_rate, influence, spearman, units
from mmbench.statistics.equal_size import correlate_cells
from mmbench.statistics.inference import t_quantile, t_sided
from mmbench.statistics.remarks import too_few
from mmbench.statistics.sample import Sample, Samples
from mmbench.text import count, metric_name

Array = NDArray[np.float64]
Codes = NDArray[np.int64]

SUBJECT = "manifold"
"""The metric that is compared with every other one."""

COLUMNS = {
    **dict.fromkeys(("metric", "rival", "target", "group", "statistic"), "string"),
    "n_configurations": "int64",
    **dict.fromkeys(("rho", "rival_rho", "difference", "ci_low", "ci_high", "p_value", "q_value"), "float64"),
    "remark": "string",
}


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


def difference_table(all_samples: Sequence[Samples]) -> pd.DataFrame:
    """The manifold metric minus every other one; q_value is over the rivals of one group, target and statistic.

    A second training is not a rival: the mean over seeds that the metrics are compared with contains it.

    Returns:
        One row per metric, rival, target, group and statistic.
    """
    rows = []
    for samples in all_samples:
        expansions = (samples.configurations["arm"] == "expansion").to_numpy(dtype=bool)
        for metric in [name for name in samples.metrics if metric_name(name) == SUBJECT]:
            for group, inside in {"all": None, "arm=expansion": expansions}.items():
                sample = samples.sample(metric, inside)
                for rival in samples.metrics:
                    if rival in (metric, SECOND):
                        continue
                    for statistic, difference in differences(sample, samples.sample(rival, inside)).items():
                        n = difference.n_configurations
                        question = {"metric": metric, "rival": rival, "target": samples.target, "group": group}
                        remark = too_few(n, f"{count(n, 'configuration')} in common")
                        rows.append({**question, "statistic": statistic, **vars(difference), "remark": remark})
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    if len(table):
        groups = table.groupby(["metric", "target", "group", "statistic"], group_keys=False)
        table["q_value"] = groups["p_value"].transform(false_discovery_rate)
    return table


def differences(sample: Sample, rival: Sample) -> dict[str, Difference]:
    """The differences of two metrics of one group, on the configurations that both have.

    The target is that of the first; the two differ only where one metric lacks a seed that the other has.

    Returns:
        `spearman`, `within_base_spearman` (over expansions) and `equal_budget_spearman`.
    """
    _, left, right = np.intersect1d(sample.number, rival.number, assume_unique=True, return_indices=True)
    score, rival_score = sample.sign * sample.score[left], rival.sign * rival.score[right]
    target, base = sample.target[left], sample.base_number[left]
    cells = {"within_base": sample.base_cell[left], "equal_budget": sample.budget_cell[left]}
    return {
        "spearman": spearman_difference(score, rival_score, target, base),
        **{
            f"{kind}_spearman": difference_in_cells(score, rival_score, target, base, cell)
            for kind, cell in cells.items()
        },
    }


def spearman_difference(score: Array, rival: Array, target: Array, base: Codes) -> Difference:
    """The difference of the two Spearman correlations with the target.

    Args:
        score: of each configuration, shape (n,), in the direction that theory expects.
        rival: the other metric's score of each configuration, shape (n,), likewise.
        target: of each configuration, shape (n,).
        base: the number of each configuration's base model, shape (n,).

    Returns:
        The difference; without an interval for fewer than 4 configurations.
    """
    n = len(score)
    rho, rival_rho = spearman(score, target), spearman(rival, target)
    gap = rho - rival_rho
    if n < 4 or math.isnan(gap):
        return Difference(n, rho, rival_rho, gap)
    effects = influence(score, target) - influence(rival, target)
    alone: tuple[float, float] = (math.sqrt(effects @ effects / (n * (n - 1))), n - 2)
    return Difference(n, rho, rival_rho, gap, *_interval(gap, alone, *units(effects, base, alone=False)[:2]))


def difference_in_cells(score: Array, rival: Array, target: Array, base: Codes, cell: Codes) -> Difference:
    """The difference of the two correlations inside cells, averaged over the cells where both are defined.

    Args:
        score: of each configuration, shape (n,), in the direction that theory expects.
        rival: the other metric's score of each configuration, shape (n,), likewise.
        target: of each configuration, shape (n,).
        base: the number of each configuration's base model, shape (n,).
        cell: the number of each configuration's cell, shape (n,); -1 for none.

    Returns:
        The difference; its n_configurations are those of the cells that count.
    """
    a, b = correlate_cells(cell, base, score, target), correlate_cells(cell, base, rival, target)
    both, left, right = np.intersect1d(a.code, b.code, return_indices=True)
    inside = np.isin(cell, both)
    if not len(both):
        return Difference(int(inside.sum()))
    shared = correlate_cells(cell[inside], base[inside], score[inside], rival[inside]).rho
    n = a.n[left]
    weight = n / n.sum()
    rho, rival_rho = float(weight @ a.rho[left]), float(weight @ b.rho[right])
    gap = rho - rival_rho
    freedom = int(n.sum()) - len(both) - 1
    if freedom < 1:
        return Difference(int(n.sum()), rho, rival_rho, gap)
    alone = math.sqrt(float((weight**2 * 2 * (1 - shared) / (n - 1)).sum())), freedom
    _, place = np.unique(a.base[left], return_inverse=True)
    each = weight * (a.rho[left] - b.rho[right] - gap)
    contributions, weights = (np.bincount(place, values).astype(float) for values in (each, weight))
    return Difference(int(n.sum()), rho, rival_rho, gap, *_interval(gap, alone, contributions, weights))


def _interval(gap: float, alone: tuple[float, float], contributions: Array, weights: Array) -> tuple[float, ...]:
    """Low and high by the error with the wider interval, and the larger p-value; NaN where nothing varies.

    Args:
        gap: the difference.
        alone: the error of independent configurations, and its degrees of freedom.
        contributions: of each base model to the difference, shape (bases,).
        weights: of each base model, shape (bases,).

    Returns:
        Low, high and p-value.
    """
    errors = [alone]
    if len(weights) > 1:
        error = math.sqrt(float(((contributions / (1 - weights)) ** 2).sum()))
        errors.append((error, 1 / float(weights @ weights) - 1))
    if not any(error > 1e-12 for error, _ in errors):
        return (math.nan,) * 3
    half = max(t_quantile(freedom) * error for error, freedom in errors)
    p_value = max(t_sided(gap / error, freedom) for error, freedom in errors if error > 1e-12)
    return max(-2.0, gap - half), min(2.0, gap + half), p_value
