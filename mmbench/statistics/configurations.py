"""From runs to configurations, the units of all statistics: which runs count, what they aim at, what may be compared.

A configuration is everything in a run but its metric and its seed; score and target are averaged over seeds first, or
three seeds of ten networks would pass for thirty networks. Two configurations may be compared inside a cell: equal
budget (data set, base model, budget) or equal architecture (data set, base model, parameters, depth, operations).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

TARGET_WORDS = {
    "gain": "gain in test accuracy",
    "final_accuracy": "final test accuracy",
    "gain_over_scratch": "gain over compute-matched scratch",
    "test_loss_gain": "gain in test loss",
    "generalisation_gap": "generalisation gap",
}
"""The targets and their names for people.

* gain, final_accuracy: columns of the record.
* gain_over_scratch: final accuracy minus that of `scratch_matched`, the large network trained from scratch for the
  compute of base and expanded model together, on the same data set, base model, budget and seed (the mean over axes,
  where several were trained). Null for `scratch_matched` itself and where none was trained.
* test_loss_gain: base_loss - final_loss, in nats; positive is better.
* generalisation_gap: final_loss - final_train_loss, in nats; larger is worse.
"""
TARGETS = tuple(TARGET_WORDS)
DIRECTIONS = {target: -1 if target == "generalisation_gap" else 1 for target in TARGETS}
"""+1 where a larger target is better. The sign expected of a correlation is the metric's expected sign times this."""

KEYS = ("dataset", "model", "axis", "budget", "training")
CONTROLS = ("none", "scratch", "scratch_matched")
"""The expansions that others are compared with; left out of the group `arm=expansion`."""
MATCHED = "scratch_matched"

_TEXT = [
    *("run_id", "status", "error", "metric", "metric_id", "configuration", "base_configuration", "expansion", "arm"),
    *("dataset", "model", "axis", "training", "store"),
]
_NUMBERS = [
    *("seed", "factor", "budget", "expected_sign", "score", "metric_seconds", "train_seconds", "parameters", "depth"),
    *("flops", "base_accuracy", "gain", "final_accuracy", "base_loss", "final_loss", "final_train_loss"),
]
_CONFIGURATION = ("dataset", "model", "expansion", "axis", "factor", "budget", "training", "parameters")
_UNIT = ("configuration", "base", *KEYS, "expansion", "arm")


def prepared(frame: pd.DataFrame) -> pd.DataFrame:
    """The runs with the columns that statistics read, typed, and the targets; what lacks is null.

    `arm`, `base` and `configuration` are filled in from what they stand for. A metric that occurs with several sets of
    options (metric_id) becomes one metric for each, named `metric@` and the head of the id: they are different scores.
    Of runs with one id (in two stores) one counts, a done one if there is any.
    """
    frame = frame.copy(deep=False)
    frame.attrs = {}  # pandas copies them, lists of files and all, whenever a column is taken
    n = len(frame)
    columns: dict[str, Any] = {}
    for name in _TEXT:
        columns[name] = frame[name].astype("string").array if name in frame else pd.array([None] * n, dtype="string")
    for name in _NUMBERS:
        values = pd.to_numeric(frame[name], errors="coerce") if name in frame else pd.Series(np.nan, range(n))
        columns[name] = values.to_numpy(dtype=float, na_value=np.nan)
    table = pd.DataFrame(columns, index=range(n))
    table["metric"] = _parted(table)
    arm = table["expansion"].isin(CONTROLS).map({True: "control", False: "expansion"}).astype("string")
    table["arm"] = table["arm"].fillna(arm)
    table["base"] = _filled(table, "base_configuration", ("model", "training"))
    table["configuration"] = _filled(table, "configuration", _CONFIGURATION)
    table["done"] = (table["status"] == "done").fillna(False).astype(bool)
    # Sums of floats depend on their order: sorted, the same records give the same means in whatever order they come.
    order = ["metric", "configuration", "seed", "run_id"]
    table = table.sort_values([*order, "done", "store"], ascending=[*[True] * 4, False, True], kind="stable")
    again = table["run_id"].notna() & table.duplicated(["run_id"])
    table = table[~again].reset_index(drop=True)
    table["number"] = table.groupby(list(_UNIT), dropna=False).ngroup()  # of the configuration
    with np.errstate(invalid="ignore"):
        table["test_loss_gain"] = table["base_loss"] - table["final_loss"]
        table["generalisation_gap"] = table["final_loss"] - table["final_train_loss"]
        table["gain_over_scratch"] = _over_scratch(table)
    return table


def counted(table: pd.DataFrame, target: str) -> pd.DataFrame:
    """The prepared runs that count for a target: done, with a finite score and target."""
    return table[table["done"] & table["metric"].notna() & np.isfinite(table["score"]) & np.isfinite(table[target])]


def averaged(table: pd.DataFrame, target: str) -> pd.DataFrame:
    """The configurations of counted runs: one row per metric and configuration, the target as `target`.

    n: runs; seeds: distinct ones; score_sd, target_sd: standard deviations over runs (null for one). base_cell,
    budget_cell, architecture_cell: numbers of the cells inside which configurations are compared, -1 for none.
    """
    priced = table["metric_seconds"].notna() & table["train_seconds"].notna()
    table = table.assign(
        target=table[target],
        priced_metric=table["metric_seconds"].where(priced),
        priced_train=table["train_seconds"].where(priced),
    )
    groups = table.groupby(["metric", "number"])
    units = groups.agg(
        n=("score", "size"),
        seeds=("seed", "nunique"),
        score=("score", "mean"),
        score_sd=("score", "std"),
        target=("target", "mean"),
        target_sd=("target", "std"),
        parameters=("parameters", "mean"),
        depth=("depth", "mean"),
        flops=("flops", "mean"),
        base_accuracy=("base_accuracy", "mean"),
        seconds=("metric_seconds", "sum"),
        timed=("metric_seconds", "count"),
        priced_metric=("priced_metric", "sum"),
        priced_train=("priced_train", "sum"),
    ).reset_index()
    known = table.drop_duplicates("number")[["number", *_UNIT]]
    return celled(units.merge(known, on="number", how="left"))


def celled(units: pd.DataFrame) -> pd.DataFrame:
    """Round away what is floating-point noise, and number the cells."""
    # Values that are equal but for floating-point rounding are ties: 0.9 - 0.8 and 0.8 - 0.7 are one gain.
    for column in ("target", "base_accuracy"):
        units[column] = units[column].round(12)
    units["score"] = [float(f"{score:.12g}") for score in units["score"]]
    units["base_cell"] = units.groupby(["dataset", "base"], dropna=False).ngroup()
    units["budget_cell"] = _numbered(units, ["dataset", "base", "budget"])
    sizes = units[["depth", "flops"]].fillna(-1)  # records without them: equal parameters alone
    units["architecture_cell"] = _numbered(units.assign(**sizes), ["dataset", "base", "parameters", "depth", "flops"])
    return units


def runs(frame: pd.DataFrame, target: str) -> pd.DataFrame:
    """The runs that count for a target: done, with a finite score and target; missing columns are there as null."""
    return counted(prepared(frame), target)


def configurations(frame: pd.DataFrame, target: str) -> pd.DataFrame:
    """The units of statistics: one row per metric and configuration, averaged over seeds; the target as `target`."""
    return averaged(runs(frame, target), target)


def mixed(frame: pd.DataFrame, target: str = "gain") -> list[str]:
    """The metrics with several scores for one configuration and seed, which `configurations` averages.

    Options of a metric part its rows by `metric_id`; where records have none, such an average is of different things.
    """
    table = runs(frame, target)
    repeated = table["seed"].notna() & table.duplicated(["metric", "number", "seed"])
    return sorted(table.loc[repeated, "metric"].unique())


def _parted(table: pd.DataFrame) -> pd.Series:
    kinds = table.groupby("metric")["metric_id"].transform("nunique")
    several = (kinds > 1).fillna(False) & table["metric_id"].notna()
    return table["metric"].mask(several, table["metric"] + "@" + table["metric_id"].str[:6])


def _filled(table: pd.DataFrame, column: str, parts: Sequence[str]) -> pd.Series:
    """The column; where it is null, the parts that it stands for."""
    lacking = table[column].isna()
    if not lacking.any():
        return table[column]
    text = pd.Series("", index=table.index, dtype="string")
    for name in parts:
        text = text + "|" + table[name].astype("string").fillna("")
    return table[column].fillna(text)


def _numbered(units: pd.DataFrame, keys: list[str]) -> pd.Series:
    return units.groupby(keys, dropna=True).ngroup().fillna(-1).astype(int)


def _over_scratch(table: pd.DataFrame) -> pd.Series:
    """Final accuracy minus that of compute-matched scratch of the same data set, base model, budget and seed."""
    cell = ["dataset", "base", "budget", "seed"]
    matched = table[
        table["done"] & (table["expansion"] == MATCHED).fillna(False) & np.isfinite(table["final_accuracy"])
    ]
    # One training has a record for each metric: it counts once.
    trained = matched.groupby([*cell, "number"])["final_accuracy"].mean()
    scratch = trained.groupby(level=cell).mean().rename("scratch")
    partner = table[cell].merge(scratch.reset_index(), on=cell, how="left")["scratch"].to_numpy(dtype=float)
    return (table["final_accuracy"] - partner).mask((table["expansion"] == MATCHED).fillna(False).to_numpy(dtype=bool))
