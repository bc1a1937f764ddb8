"""The metrics that every other is held against, two of which need no metric to have been run.

* baselines: what is known without theory (parameters, operations, depth, base accuracy, loss, loss after k steps).
* negative control: a random number. What it reaches is chance.
* lookup table: the mean rank of the same operator on the *other* data sets. If it does as well as a metric, the metric
  says no more than which operator is good in general.
* positive control: a second, independent training of the same configuration. What it reaches is about all that can be
  known in advance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mmbench.statistics.configurations import celled

SIZE = "parameters"
BASELINES = (
    *(SIZE, "flops", "depth"),
    *("base_accuracy", "training_loss", "validation_loss", "loss_after_k_steps"),
)
"""The metrics that need no theory; a metric that does not beat them is not worth its cost."""
LOOKUP = "lookup_table"
SECOND = "second_training"
DERIVED = (LOOKUP, SECOND)
"""The controls that are made from the targets of a sweep."""


def stem(metric: str) -> str:
    """The name of a metric without what parts its sets of options."""
    return metric.partition("@")[0]


def role(metric: str, expected_sign: Any) -> str:
    """What a metric is there for: a kind of control, `baseline`, or `` for a metric under test."""
    if metric in DERIVED:
        return "lookup" if metric == LOOKUP else "positive control"
    if stem(metric) == "random" or (not pd.isna(expected_sign) and expected_sign == 0):
        return "negative control"
    return "baseline" if stem(metric) in BASELINES else ""


def with_controls(units: pd.DataFrame, trainings: pd.DataFrame, target: str) -> pd.DataFrame:
    """The configurations of all metrics with those of the derived controls, in which a better target is a larger score.

    Args:
        units: as of `averaged`.
        trainings: counted runs of any metric; those of one configuration and seed are one training.
        target: the name of the target's column.
    """
    if trainings.empty:
        return units
    keys = ["number", "seed"]
    one = (
        trainings.groupby(keys, dropna=False)
        .agg(target=(target, "mean"), train=("train_seconds", "mean"))
        .reset_index()
    )
    one["turn"] = one.groupby("number").cumcount()
    known = units.drop_duplicates("number").set_index("number")
    added = [derived for derived in (_second(one, known), _lookup(one, known)) if len(derived)]
    return celled(pd.concat([units, *added], ignore_index=True)) if added else units


def _second(one: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """Every second seed's target as the score of the others': an independent base model, expansion and training."""
    first, second = (one[one["turn"] % 2 == side].groupby("number") for side in (0, 1))
    score, goal = second["target"].mean(), first["target"].mean()
    both = score.index.intersection(known.index)
    rows = known.loc[both].assign(metric=SECOND, score=score.loc[both], target=goal.loc[both])
    n, seconds = first["target"].size().loc[both], second["train"].sum().loc[both]
    return rows.assign(
        n=n, seeds=n, target_sd=first["target"].std().loc[both], score_sd=np.nan, **_cost(seconds, second, both)
    ).reset_index()


def _cost(seconds: pd.Series, second: Any, both: pd.Index) -> dict[str, Any]:
    """A second training costs as much as the training it foretells."""
    return {
        "seconds": seconds,
        "timed": second["train"].count().loc[both],
        "priced_metric": seconds,
        "priced_train": seconds,
    }


def _lookup(one: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """The mean rank of the operator on the other data sets, at the same budget if it was tried there at that budget."""
    targets = one.groupby("number").agg(target=("target", "mean"), target_sd=("target", "std"), n=("target", "size"))
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
