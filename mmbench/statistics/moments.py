"""How well each metric ranks the gains when it is taken along the training of the expanded models.

A metric at a later moment is another score: it knows more, and costs the training up to there. The paper
(arXiv:2405.15895, figures 4 to 7) plots tau(M_t, G*), Kendall's rank correlation of the score after t epochs with the
best validation gain. Kendall's tau is given in two ways:

* kendall: over configurations, averaged over seeds first, as in `correlate`;
* kendall_within: tau among the expansions of one trained base model (one seed), averaged over base models, with
  Student's t interval over them. This is what someone faces who has one base model.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmbench.statistics.configurations import scored
from mmbench.statistics.controls import DERIVED
from mmbench.statistics.correlation import kendall, kendall_interval, spearman_interval
from mmbench.statistics.inference import t_quantile
from mmbench.statistics.sample import Samples
from mmbench.statistics.seed_luck import TRAINED_BASE

ALONG = ("best_validation_gain", "gain")
"""The targets that are correlated along the training."""
COLUMNS = {
    **{"metric": "string", "after": "float64", "after_epochs": "float64", "target": "string"},
    **dict.fromkeys(("n", "n_configurations"), "int64"),
    **dict.fromkeys(("kendall", "spearman", "ci_low", "ci_high", "seconds", "cost_fraction"), "float64"),
    **dict.fromkeys(("kendall_low", "kendall_high", "kendall_within", "within_low", "within_high"), "float64"),
    **{"n_base_models": "int64", "moment": "string"},
}


class Within(NamedTuple):
    """Kendall's tau inside each trained base model, averaged; NaN where undefined."""

    tau: float = math.nan
    low: float = math.nan
    high: float = math.nan
    bases: int = 0


def within_bases(runs: pd.DataFrame, target: str) -> Within:
    """Kendall's tau-b of score and target among the expansions of one trained base model, averaged over base models.

    A base model whose candidates all have one score counts as 0, since the metric orders none of them; one whose
    candidates all have one target does not count.

    Args:
        runs: scored runs of one metric, as of `configurations.scored`.
        target: a column.

    Returns:
        The mean, its 95 % interval over base models (from two of them on), and their number.
    """
    means = runs.groupby([*TRAINED_BASE, "number"], dropna=False)[["score", target]].mean()
    taus = [
        tau_of(group["score"].to_numpy(dtype=float), group[target].to_numpy(dtype=float))
        for _, group in means.groupby(level=TRAINED_BASE, dropna=False)
    ]
    return averaged(np.array([tau for tau in taus if not math.isnan(tau)]))


def tau_of(score: NDArray[np.float64], target: NDArray[np.float64]) -> float:
    """Kendall's tau-b among the expansions of one base model: 0 if all scores are equal, NaN if all targets are."""
    # Differences that are floating-point rounding are ties.
    score, target = np.array([float(f"{value:.12g}") for value in score]), target.round(12)
    if len(target) < 2 or np.ptp(target) == 0:
        return math.nan
    return kendall(score, target) if np.ptp(score) > 0 else 0.0


def averaged(taus: NDArray[np.float64]) -> Within:
    """The mean of the taus of several base models, with Student's t interval; none if they are few, or all equal."""
    n = len(taus)
    if not n:
        return Within()
    mean = float(taus.mean())
    if n < 2 or np.ptp(taus) == 0:
        return Within(mean, bases=n)
    half = t_quantile(n - 1) * float(taus.std(ddof=1)) / math.sqrt(n)
    return Within(mean, max(-1.0, mean - half), min(1.0, mean + half), n)


def moments_table(runs: pd.DataFrame) -> pd.DataFrame:
    """The correlations of every metric at every moment; empty if no metric was taken at a later moment.

    * after, after_epochs: the moment in optimiser steps and in epochs, the mean where data sets differ.
    * seconds: mean seconds of one score, with the training up to the moment; cost_fraction: as a share of the training.
    * spearman, ci_low, ci_high, kendall_low, kendall_high: see correlation.py; the other columns: see the head of this
      file. n_base_models: the trained base models of kendall_within; moment: in words, empty right after the expansion.

    Args:
        runs: all runs, as of `configurations.prepare`.

    Returns:
        One row per metric (with its set of options), moment and target of `ALONG`, sorted by these.
    """
    rows = []
    if (runs["after"] > 0).any():
        for target in ALONG:
            samples = Samples(runs, target)
            members = dict(list(scored(runs, target).groupby("metric")))
            rows += [_row(samples, metric, members[metric]) for metric in samples.metrics if metric not in DERIVED]
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    order = table.assign(place=table["target"].map({target: place for place, target in enumerate(ALONG)}))
    return table.loc[order.sort_values(["metric", "place", "after"], kind="stable").index].reset_index(drop=True)


def _row(samples: Samples, metric: str, runs: pd.DataFrame) -> dict[str, object]:
    sample = samples.sample(metric)
    rho = spearman_interval(sample.score, sample.target, sample.base_number)
    tau = kendall_interval(sample.score, sample.target, rho)
    within, paid = within_bases(runs, samples.target), sample.priced_train.sum()
    return {
        "metric": runs["measured"].iloc[0],
        "after": runs["after"].mean(),
        "after_epochs": runs["after_epochs"].mean() if (runs["after"] > 0).any() else 0.0,
        "target": samples.target,
        "n": int(sample.n.sum()),
        "n_configurations": len(sample),
        "kendall": tau.rho,
        "spearman": rho.rho,
        "ci_low": rho.low,
        "ci_high": rho.high,
        "seconds": sample.seconds.sum() / sample.timed.sum() if sample.timed.sum() else math.nan,
        "cost_fraction": sample.priced_metric.sum() / paid if paid > 0 else math.nan,
        "kendall_low": tau.low,
        "kendall_high": tau.high,
        "kendall_within": within.tau,
        "within_low": within.low,
        "within_high": within.high,
        "n_base_models": within.bases,
        "moment": runs["moment"].iloc[0],
    }


def shown_tau(table: pd.DataFrame) -> tuple[str, str, str]:
    """The columns of tau and of its interval that figures and tables show: within base models if there are several."""
    several = bool((table["n_base_models"] > 1).any())
    return ("kendall_within", "within_low", "within_high") if several else ("kendall", "kendall_low", "kendall_high")
