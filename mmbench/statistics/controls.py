"""Baselines and controls, with which every metric is compared; two of them are computed from the targets alone.

* baselines: what is known without theory (parameters, operations, depth, base accuracy, loss, loss after k steps).
* negative control: a random number. Its correlation is chance.
* lookup table: the mean rank of the same operator on the *other* data sets. If it does as well as a metric, the metric
  says no more than which operator is good in general.
* positive control: a second, independent training of the same configuration. Its correlation is about the best that any
  predictor can reach.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mmbench.statistics.configurations import number_cells
from mmbench.text import metric_name

SIZE = "parameters"
BASELINES = (
    *(SIZE, "flops", "depth"),
    *("base_accuracy", "training_loss", "validation_loss", "loss_after_k_steps"),
)
"""The metrics that need no theory; a metric that does not beat them is not worth its cost."""
LOOKUP = "lookup_table"
SECOND = "second_training"
DERIVED = (LOOKUP, SECOND)
"""The controls that are computed from the targets of a sweep."""


def role(metric: str, expected_sign: Any) -> str:
    """The role of a metric: a kind of control, `baseline`, or `` for a metric under test."""
    if metric in DERIVED:
        return "lookup" if metric == LOOKUP else "positive control"
    if metric_name(metric) == "random" or (not pd.isna(expected_sign) and expected_sign == 0):
        return "negative control"
    return "baseline" if metric_name(metric) in BASELINES else ""


def with_controls(configurations: pd.DataFrame, runs: pd.DataFrame, target: str) -> pd.DataFrame:
    """The configurations of all metrics, and those of the derived controls, whose larger score means a better target.

    Args:
        configurations: as of `average_seeds`.
        runs: done runs of any metric with a finite target; those of one configuration and seed are one training.
        target: the name of the target's column.

    Returns:
        The rows of both, with their cells numbered again.
    """
    if runs.empty:
        return configurations
    trainings = (
        runs.groupby(["number", "seed"], dropna=False)
        .agg(target=(target, "mean"), train=("train_seconds", "mean"))
        .reset_index()
    )
    trainings["repeat"] = trainings.groupby("number").cumcount()
    known = configurations.drop_duplicates("number").set_index("number")
    derived = [table for table in (_second(trainings, known), _lookup(trainings, known)) if len(table)]
    return number_cells(pd.concat([configurations, *derived], ignore_index=True)) if derived else configurations


def _second(trainings: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """Every second seed's target as the score for the others: an independent base model, expansion and training."""
    first, second = (trainings[trainings["repeat"] % 2 == side].groupby("number") for side in (0, 1))
    score, target = second["target"].mean(), first["target"].mean()
    both = score.index.intersection(known.index)
    rows = known.loc[both].assign(metric=SECOND, score=score.loc[both], target=target.loc[both])
    n, seconds = first["target"].size().loc[both], second["train"].sum().loc[both]
    return rows.assign(
        n=n,
        seeds=n,
        target_sd=first["target"].std().loc[both],
        score_sd=np.nan,
        # A second training costs as much as the training that it predicts.
        seconds=seconds,
        timed=second["train"].count().loc[both],
        priced_metric=seconds,
        priced_train=seconds,
    ).reset_index()


def _lookup(trainings: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """The mean rank of the operator on the other data sets, at the same budget where possible."""
    targets = trainings.groupby("number").agg(
        target=("target", "mean"), target_sd=("target", "std"), n=("target", "size")
    )
    rows = known.loc[targets.index.intersection(known.index)].drop(columns=["target", "target_sd", "n"]).join(targets)
    # Ranks inside one base model, as fractions: base models differ in how many configurations they have.
    rows["rank"] = rows.groupby(["dataset", "base"], dropna=False)["target"].rank(pct=True)
    operator = ["expansion", "axis"]
    score = _elsewhere(rows, [*operator, "budget"]).fillna(_elsewhere(rows, operator))
    rows = rows.assign(metric=LOOKUP, score=score, seeds=rows["n"], score_sd=np.nan, seconds=0.0, timed=rows["n"])
    rows = rows.assign(priced_metric=0.0).drop(columns="rank")
    return rows[np.isfinite(rows["score"])].reset_index()


def _elsewhere(rows: pd.DataFrame, keys: Sequence[str]) -> pd.Series:
    """The mean rank over the configurations of equal keys on all data sets but the row's own."""
    everywhere = rows.groupby(list(keys), dropna=False)["rank"].agg(["sum", "count"])
    here = rows.groupby([*keys, "dataset"], dropna=False)["rank"].agg(["sum", "count"])
    total = rows[list(keys)].merge(everywhere.reset_index(), on=list(keys), how="left")
    own = rows[[*keys, "dataset"]].merge(here.reset_index(), on=[*keys, "dataset"], how="left")
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = (total["sum"] - own["sum"]).to_numpy() / (total["count"] - own["count"]).to_numpy()
    return pd.Series(mean, index=rows.index)
