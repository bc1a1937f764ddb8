"""Two stores (sweeps, machines, versions of mmbench) on the runs that they share.

A shared run has the same configuration, seed and metric in both. One training has a record for each metric but counts
once for the columns of a training (gain, accuracies, seconds). Means and differences (second minus first) are
over base models, with Student's t interval, or over trained base models (seeds) where there is one base model.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmbench.statistics.configurations import prepare
from mmbench.statistics.inference import t_quantile
from mmbench.text import count, listed, number

TRAINING = ("gain", "best_validation_gain", "base_accuracy", "final_accuracy", "final_loss", "train_seconds")
COLUMNS = {
    **dict.fromkeys(("column", "metric"), "string"),
    **dict.fromkeys(("n", "n_different", "n_base_models"), "int64"),
    **dict.fromkeys(("first", "second", "difference", "ci_low", "ci_high"), "float64"),
}
NAMED = 5


def compare_stores(frame: pd.DataFrame, first: str, second: str) -> pd.DataFrame:
    """The differences of two stores.

    Args:
        frame: as of `load_records` of both; its column `store` tells them apart.
        first: the one store.
        second: the other.

    Returns:
        One row per column of a training, then one per metric for its score: the runs that both have (n), those whose
        values differ by more than rounding, both means, and the mean difference with its interval.
    """
    runs = shared(frame, first, second)
    trained = runs.drop_duplicates(["number", "seed"])
    rows = [_row(trained, column, None) for column in TRAINING]
    rows += [_row(members, "score", str(metric)) for metric, members in runs.groupby("metric")]
    return pd.DataFrame([row for row in rows if row["n"]], columns=list(COLUMNS)).astype(COLUMNS)


def shared(frame: pd.DataFrame, first: str, second: str) -> pd.DataFrame:
    """The runs that are done in both stores.

    Args:
        frame: as of `load_records` of both.
        first: the one store.
        second: the other.

    Returns:
        One row per run: its identity, and every column twice, `_1` and `_2`.
    """
    if "store" not in frame:
        frame = frame.assign(store=None)
    sides = []
    for store in (first, second):
        runs = prepare(frame[(frame["store"] == store).fillna(False).astype(bool)])
        sides.append(runs[runs["done"]].drop(columns="number"))
    keys = ["dataset", "base", "configuration", "seed", "metric"]
    values = [*TRAINING, "score", "run_id"]
    left = sides[0][[*keys, *values]].drop_duplicates(keys)
    right = sides[1][[*keys, *values]].drop_duplicates(keys)
    both = left.merge(right, on=keys, suffixes=("_1", "_2"))
    both["number"] = both.groupby(["dataset", "base", "configuration"], dropna=False).ngroup()
    return both


def different_values(frame: pd.DataFrame, first: str, second: str) -> list[str]:
    """Which runs of one id have different values in both stores.

    Args:
        frame: as of `load_records` of both.
        first: the one store.
        second: the other.

    Returns:
        A sentence; none if no run has.
    """
    runs = shared(frame, first, second)
    same_id = (runs["run_id_1"] == runs["run_id_2"]).fillna(False).astype(bool)
    runs = runs[same_id]
    differing = [column for column in ("gain", "final_accuracy", "score") if _differ(runs, column).any()]
    if not differing:
        return []
    some = np.logical_or.reduce([_differ(runs, column) for column in differing])
    example = runs[some].iloc[0]
    column = next(column for column in differing if _differ(runs[some], column)[0])
    values = " and ".join(number(example[f"{column}_{side}"], 6) for side in (1, 2))
    return [
        f"{count(int(some.sum()), 'run')} of equal id differ in {listed(differing)} between {first} and {second}, such "
        f"as {example['run_id_1']} ({column} {values}): another processor or another version of a library rounds "
        "differently, and training amplifies it"
    ]


def _differ(runs: pd.DataFrame, column: str) -> NDArray[np.bool_]:
    one, two = (runs[f"{column}_{side}"].to_numpy(dtype=float) for side in (1, 2))
    return np.isfinite(one) & np.isfinite(two) & ~np.isclose(one, two, rtol=1e-9, atol=1e-12)


def _row(runs: pd.DataFrame, column: str, metric: str | None) -> dict[str, object]:
    known = runs[np.isfinite(runs[f"{column}_1"]) & np.isfinite(runs[f"{column}_2"])]
    known = known.assign(gap=known[f"{column}_2"] - known[f"{column}_1"])
    values = ["gap", f"{column}_1", f"{column}_2"]
    by_base = known.groupby([known["dataset"].fillna(""), known["base"].fillna("")])[values].mean()
    means = by_base if len(by_base) > 1 else known.groupby(known["seed"].fillna(-1))[values].mean()
    units = means["gap"]
    error = float(units.std(ddof=1)) / math.sqrt(len(units)) if len(units) > 1 else math.nan
    half = t_quantile(len(units) - 1) * error if error > 0 else math.nan
    mean = float(units.mean()) if len(units) else math.nan
    return {
        **{"column": column, "metric": metric, "n": len(known), "n_different": int(_differ(known, column).sum())},
        **{"n_base_models": len(by_base), "first": means[values[1]].mean(), "second": means[values[2]].mean()},
        **{"difference": mean, "ci_low": mean - half, "ci_high": mean + half},
    }
