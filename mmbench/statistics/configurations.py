"""From runs to configurations: which runs count, what is averaged, and which configurations may be compared.

A configuration is everything in a run but its metric and its seed. Score and target are averaged over seeds first;
otherwise three seeds of ten networks would count as thirty networks. A metric taken at another moment of the expanded
model's training is another score, with a name of its own: `snip after 5 epochs`. A cell is a group of configurations of
equal budget (data set, base model, budget) or of equal architecture (data set, base model, parameters, depth,
operations).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mmbench.arguments import shown
from mmbench.errors import ConfigError
from mmbench.statistics.seed_luck import without_seed_luck
from mmbench.statistics.target import MATCHED, with_targets

KEYS = ("dataset", "model", "axis", "budget", "training")
CONTROLS = ("none", "scratch", MATCHED)
"""The expansions that others are compared with; left out of the group `arm=expansion`."""

_TEXT = [
    *("run_id", "status", "error", "metric", "metric_id", "configuration", "base_configuration", "expansion", "arm"),
    *("dataset", "model", "axis", "training", "store", "definition"),
]
_NUMBERS = [
    *("seed", "factor", "budget", "expected_sign", "score", "metric_seconds", "train_seconds", "parameters", "depth"),
    *("flops", "base_accuracy", "gain", "final_accuracy", "base_loss", "final_loss", "final_train_loss"),
    *("best_validation_gain", "after", "after_epochs", "after_seconds"),
]
_CONFIGURATION = ("dataset", "model", "expansion", "axis", "factor", "budget", "training", "parameters")
_VALUES = ("score", "gain", "final_accuracy")
_IDENTITY = ("configuration", "base", *KEYS, "expansion", "arm")


def prepare(frame: pd.DataFrame) -> pd.DataFrame:
    """The runs with the columns that statistics read, one dtype each, and the targets; missing columns are null.

    Missing values of `arm`, `base` and `configuration` are derived from other columns. A metric with several sets of
    options (metric_id) becomes several metrics, since they are different scores: each is named by the options in which
    they differ, such as `sharpness rho=0.1`; or, if its definition is unknown, by `@` and the start of the id. So
    is a metric at a later moment, named `metric after 5 epochs` or `metric after 100 steps`; its seconds include the
    training up to there. If a run id occurs several times (in two stores), one run counts, a done one if possible; if
    its values differ by more than rounding (another processor), their mean counts: they share the seed.

    Returns:
        One row per run. `number` is that of its configuration; `measured` is the metric without its moment, and
        `moment` the moment in words, empty right after the expansion.

    Raises:
        ConfigError: it is no frame.
    """
    if not isinstance(frame, pd.DataFrame):
        raise ConfigError(
            f"frame = {shown(frame)} is not allowed: must be a frame of records, as "
            'mmbench.load_records("results") returns it'
        )
    frame = frame.copy(deep=False)
    frame.attrs = {}  # pandas copies them, with their lists of files, whenever a column is taken
    n = len(frame)
    columns: dict[str, Any] = {}
    for name in _TEXT:
        columns[name] = frame[name].astype("string").array if name in frame else pd.array([None] * n, dtype="string")
    for name in _NUMBERS:
        values = pd.to_numeric(frame[name], errors="coerce") if name in frame else pd.Series(np.nan, range(n))
        columns[name] = values.to_numpy(dtype=float, na_value=np.nan)
    table = pd.DataFrame(columns, index=range(n))
    table["after"] = table["after"].fillna(0)
    table["moment"] = _moments(table)
    table["measured"] = _metric_with_options(table)
    table["metric"] = table["measured"].str.cat(table["moment"], " ").str.rstrip()
    table["metric_seconds"] += table["after_seconds"].where(table["after"] > 0).fillna(0)
    arm = table["expansion"].isin(CONTROLS).map({True: "control", False: "expansion"}).astype("string")
    table["arm"] = table["arm"].fillna(arm)
    table["base"] = _filled(table, "base_configuration", ("model", "training"))
    table["configuration"] = _filled(table, "configuration", _CONFIGURATION)
    table["done"] = (table["status"] == "done").fillna(False).astype(bool)
    # Sums of floats depend on their order: sorting makes the means independent of the order of the records.
    order = ["metric", "configuration", "seed", "run_id"]
    table = table.sort_values([*order, "done", "store"], ascending=[*[True] * 4, False, True], kind="stable")
    key = table[["run_id", "done"]].copy()
    for name in _VALUES:
        key[name] = [f"{value:.9g}" for value in table[name]]
    repeated = table["run_id"].notna() & key.duplicated()
    repeated |= table["run_id"].notna() & ~table["done"] & table.duplicated(["run_id"])
    table = table[~repeated].reset_index(drop=True)
    table["number"] = table.groupby(list(_IDENTITY), dropna=False).ngroup()
    return with_targets(table)


def at_start(runs: pd.DataFrame) -> pd.DataFrame:
    """The prepared runs of each metric at its first moment: right after the expansion, if it was measured then.

    A metric that is undefined there, such as `sotl_e`, counts at the first moment at which it has a score.

    Returns:
        These runs, as of `prepare`.
    """
    if not (runs["after"] > 0).any():
        return runs
    without = ~(runs["done"] & np.isfinite(runs["score"]))
    ordered = runs.assign(without=without).sort_values(["without", "after"], kind="stable")
    first = ordered.drop_duplicates("measured").set_index("measured")["moment"]
    kept = runs["moment"] == runs["measured"].map(first)
    return runs[kept.fillna(True).astype(bool)].reset_index(drop=True)


def scored(runs: pd.DataFrame, target: str) -> pd.DataFrame:
    """The prepared runs that count for a target: done, with a finite score and target."""
    return runs[runs["done"] & runs["metric"].notna() & np.isfinite(runs["score"]) & np.isfinite(runs[target])]


def average_seeds(runs: pd.DataFrame, target: str) -> pd.DataFrame:
    """The configurations of scored runs, averaged over seeds.

    Returns:
        One row per metric and configuration, the target as `target`. n: runs; seeds: distinct ones; score_sd,
        target_sd: standard deviations over runs (null for one); see `number_cells` for the others.
    """
    timed = runs["metric_seconds"].notna() & runs["train_seconds"].notna()
    runs = runs.assign(
        target=runs[target],
        priced_metric=runs["metric_seconds"].where(timed),
        priced_train=runs["train_seconds"].where(timed),
    )
    groups = runs.groupby(["metric", "number"])
    means = groups.agg(
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
    identity = runs.drop_duplicates("number")[["number", *_IDENTITY]]
    return number_cells(means.merge(identity, on="number", how="left"))


def number_cells(table: pd.DataFrame) -> pd.DataFrame:
    """Round away floating-point noise, and number the base models and the cells of configurations.

    Returns:
        The table with base_number, base_cell (its expansions), budget_cell and architecture_cell; -1 is no cell.
    """
    # Values that differ only by floating-point rounding are ties: 0.9 - 0.8 and 0.8 - 0.7 are the same gain.
    for column in ("target", "base_accuracy"):
        table[column] = table[column].round(12)
    table["score"] = [float(f"{score:.12g}") for score in table["score"]]
    table["base_number"] = table.groupby(["dataset", "base"], dropna=False).ngroup()
    # What is chosen is an expansion of a base model; controls are what it is compared with.
    table["base_cell"] = table["base_number"].where(table["arm"] == "expansion", -1).astype(int)
    table["budget_cell"] = _numbered(table, ["dataset", "base", "budget"])
    sizes = table[["depth", "flops"]].fillna(-1)  # records without them are compared by parameters alone
    table["architecture_cell"] = _numbered(table.assign(**sizes), ["dataset", "base", "parameters", "depth", "flops"])
    return table


def runs(frame: pd.DataFrame, target: str) -> pd.DataFrame:
    """The runs of a frame that count for a target: done, with a finite score and target, each metric's first moment."""
    return scored(at_start(prepare(frame)), target)


def configurations(frame: pd.DataFrame, target: str) -> pd.DataFrame:
    """One row per metric and configuration of a frame, averaged over seeds; the target as `target`."""
    return average_seeds(without_seed_luck(runs(frame, target), target), target)


def mixed(frame: pd.DataFrame, target: str = "gain") -> list[str]:
    """The metrics with several scores for one configuration and seed, which `configurations` averages.

    `metric_id` distinguishes the sets of options of a metric. Without it, such an average mixes different scores.

    Returns:
        Their names, sorted.
    """
    table = runs(frame, target)
    table = table[~(table["run_id"].notna() & table.duplicated(["run_id"]))]  # of another store
    repeated = table["seed"].notna() & table.duplicated(["metric", "number", "seed"])
    return sorted(table.loc[repeated, "metric"].unique())


def _moments(table: pd.DataFrame) -> pd.Series:
    """The moment of each run in words: epochs where it is a whole number of them; empty right after the expansion."""
    epochs = table["after_epochs"].round()
    whole = (table["after_epochs"] - epochs).abs() < 1e-6
    unit = whole.map({True: "epoch", False: "step"})
    number = epochs.where(whole, table["after"]).fillna(0).astype(int)
    text = "after " + number.astype("string") + " " + unit + (number != 1).map({True: "s", False: ""})
    return text.where(table["after"] > 0, "").astype("string")


def _metric_with_options(table: pd.DataFrame) -> pd.Series:
    """The metric, followed by its set of options if it has several; the moment is none of them."""
    definition = table["definition"].fillna("").str.replace(_MOMENT, "", regex=True)
    table = table.assign(options=definition, some_training=table["training"].fillna(""))
    # Moments of one set of options have ids of their own, and take the first one's.
    groups = table.sort_values("after", kind="stable").groupby(["metric", "options", "some_training"])
    at_once = table.groupby(["metric", "options", "some_training", "moment"])["metric_id"].transform("nunique")
    several = at_once.groupby([table["metric"], table["options"], table["some_training"]]).transform("max") > 1
    ids = table["metric_id"].where(several.fillna(True), groups["metric_id"].transform("first"))
    counts = ids.groupby(table["metric"]).transform("nunique")
    several = (counts > 1).fillna(False) & ids.notna()
    if not several.any():
        return table["metric"]
    distinct = table.assign(ids=ids)[several].drop_duplicates(["metric", "ids"])
    names: dict[tuple[str, str], str] = {}
    for metric, rows in distinct.groupby("metric"):
        names |= {(str(metric), key): name for key, name in _told_apart(str(metric), rows).items()}
    told = [names.get(pair) for pair in zip(table["metric"], ids, strict=True)]
    return table["metric"].mask(several, pd.array(told, dtype="string"))


def _told_apart(metric: str, rows: pd.DataFrame) -> dict[str, str]:
    """A name for each set of options, by its id: the options in which they differ, else the start of the id."""
    options = {
        str(row.ids): dict(_OPTION.findall(re.sub(r"^\w*\(|\)$", "", str(row.options)))) for row in rows.itertuples()
    }
    keys = list(dict.fromkeys(key for chosen in options.values() for key in chosen))
    differ = [key for key in keys if len({chosen.get(key) for chosen in options.values()}) > 1]
    names = {
        one: " ".join([metric, *(f"{key}={chosen[key]}" for key in differ if key in chosen)])
        for one, chosen in options.items()
    }
    shared = [name for name in names.values() if list(names.values()).count(name) > 1]
    return {one: f"{metric}@{one[:6]}" if name in shared else name for one, name in names.items()}


_OPTION = re.compile(r"(\w+)=((?:\[[^\]]*\]|\([^)]*\)|\{[^}]*\}|[^,])*)")
"""An option of a definition and its value, which may be a list."""


_MOMENT = re.compile(r", after=[^,)]*|\bafter=[^,)]*(?:, )?")


def _filled(table: pd.DataFrame, column: str, parts: Sequence[str]) -> pd.Series:
    """The column, with nulls replaced by the joined parts."""
    if not table[column].isna().any():
        return table[column]
    text = pd.Series("", index=table.index, dtype="string")
    for name in parts:
        text = text + "|" + table[name].astype("string").fillna("")
    return table[column].fillna(text)


def _numbered(table: pd.DataFrame, keys: list[str]) -> pd.Series:
    return table.groupby(keys, dropna=True).ngroup().fillna(-1).astype(int)
