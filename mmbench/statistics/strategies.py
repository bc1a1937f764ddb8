"""Which expansion strategy gains most, where, and by how much.

A strategy is an expansion operator (or an axis, a training recipe, ...). Strategies are compared inside cells: the same
trained base model (data set, base model, seed) and the same budget. A strategy's value in a cell is the mean target of
its configurations there; its difference is that value minus the mean of the cell's expansions (controls left out, each
strategy counted once; cells of a single expansion are left out; with fewer than two expansions, all are compared).
Differences are averaged inside each base model first (over its seeds and budgets), then over base models: the base
model is the unit.

* difference, ci_low, ci_high, p_value: the mean over base models with Student's t interval and test; with one base
  model, over its trained base models (seeds), and `unit` says so: it then holds for this base model only.
* mean_rank: over cells, 1 is best.
* block_rank: mean rank of the mean differences over base models (or seeds, with one base model), among the strategies
  that all of them have; critical_difference: how far two block ranks must be apart to differ at 5 %, after Friedman's
  test (Nemenyi 1963; Demsar 2006).
* parts: groups of strategies that share no cell, directly or through others. Between them nothing is known: differences
  are then from the mean of the strategies that each met.
* win_share: share of the shared cells in which it is better than another strategy, averaged over the others.
* best_share: share of the cells in which it is the best of the expansions. best_probability: how often it has the
  largest mean difference when base models are drawn with replacement (bootstrap, fixed generator).
* gain_per_gflop: gain over the extra operations of one image, in 10^9; gain_per_second: over the seconds of training.

The controls `none`, `scratch` and `scratch_matched` are the lines to beat. They have the same columns, but take no part
in a cell's mean, in ranks or in best_share; `none` has no budget, so it stands in every cell of its trained base model.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mmbench.errors import ConfigError
from mmbench.statistics.configurations import prepare
from mmbench.statistics.inference import t_quantile, t_sided
from mmbench.statistics.seed_luck import TRAINED_BASE
from mmbench.statistics.target import DIRECTIONS, TARGETS

Array = NDArray[np.float64]

BY = ("expansion", "axis", "arm", "training")
"""What may be compared."""
GROUPS = ("dataset", "model", "axis", "budget")
"""The groups for which strategies are ranked apart."""
COLUMNS = {
    **dict.fromkeys(("strategy", "by", "target", "group", "arm"), "string"),
    **dict.fromkeys(("n", "n_cells", "n_base_models", "parts"), "int64"),
    **dict.fromkeys(("mean", "difference", "ci_low", "ci_high", "p_value"), "float64"),
    "unit": "string",
    **dict.fromkeys(("mean_rank", "block_rank", "critical_difference"), "float64"),
    **dict.fromkeys(("win_share", "best_share", "best_probability"), "float64"),
    **dict.fromkeys(("gain_per_gflop", "gain_per_second", "train_seconds"), "float64"),
}
DRAWS = 2000
"""Draws of the bootstrap."""
FEW = 3
"""With fewer base models (or seeds) than this, drawing them again says nothing."""


def compare(frame: pd.DataFrame, by: str = "expansion", target: str = "gain") -> pd.DataFrame:
    """Rank the expansion strategies of a frame; see the head of this file.

    Args:
        frame: as of `load_records`.
        by: what is a strategy, one of `BY`.
        target: one of `TARGETS`.

    Returns:
        One row per strategy and group (`all`, then `key=value` for each data set, model, axis and budget), the
        expansions by their difference, best first, then the controls.

    Raises:
        ConfigError: `by` or `target` is unknown.
    """
    for key, value, allowed in (("by", by, BY), ("target", target, tuple(TARGETS))):
        if value not in allowed:
            raise ConfigError(f"{key} = {value!r} is unknown (allowed: {', '.join(allowed)})")
    cells = cells_of(frame, by, target)
    parts = [_ranked(members, group, DIRECTIONS[target]) for group, members in _groups(cells, by)]
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(COLUMNS))
    return table.assign(by=by, target=target)[list(COLUMNS)].astype(COLUMNS)


def cells_of(frame: pd.DataFrame, by: str, target: str) -> pd.DataFrame:
    """The mean target of each strategy in each cell.

    Args:
        frame: as of `load_records`.
        by: what is a strategy.
        target: one of `TARGETS`.

    Returns:
        One row per cell (dataset, base, seed, budget) and strategy, with arm, n (trainings), value, and what it cost.
    """
    runs = prepare(frame)
    runs = runs[runs["done"] & np.isfinite(runs[target]) & runs[by].notna()]
    base_flops = pd.to_numeric(frame["base_flops"], errors="coerce") if "base_flops" in frame else None
    if base_flops is not None:
        known = dict(zip(frame["run_id"], base_flops.to_numpy(dtype=float, na_value=np.nan), strict=True))
        runs = runs.assign(extra=runs["flops"] - runs["run_id"].map(known).astype(float))
    else:
        runs = runs.assign(extra=np.nan)
    # One training has a record for each metric, but counts once.
    keys = [*TRAINED_BASE, "model", "axis", "budget", "number", "arm"]
    columns = {"value": (target, "mean"), "seconds": ("train_seconds", "mean"), "extra": ("extra", "mean")}
    grouped = runs.groupby(list(dict.fromkeys([*keys, by])), dropna=False)
    trainings = grouped.agg(**columns).reset_index()
    trainings["strategy"] = trainings[by].astype("string")
    trainings["training"] = range(len(trainings))
    trainings["unit"] = trainings.groupby(["dataset", "base"], dropna=False).ngroup()
    return _everywhere(trainings)


def _everywhere(trainings: pd.DataFrame) -> pd.DataFrame:
    """The trainings, those without a budget of their own (such as `none`) once in every cell of their base model."""
    without = trainings["budget"].isna() | (trainings["strategy"] == "none").fillna(False)
    budgets = trainings.loc[~without, [*TRAINED_BASE, "budget"]].drop_duplicates()
    spread = trainings[without].drop(columns="budget").merge(budgets, on=TRAINED_BASE, how="left")
    return pd.concat([trainings[~without], spread], ignore_index=True)


def _groups(cells: pd.DataFrame, by: str) -> Iterator[tuple[str, pd.DataFrame]]:
    if cells.empty:
        return
    yield "all", cells
    for key in [key for key in GROUPS if key != by]:
        for value in sorted(cells[key].dropna().unique()):
            members = cells[(cells[key] == value).fillna(False).astype(bool)]
            if (members["arm"] == "expansion").any():
                yield f"{key}={value:g}" if key == "budget" else f"{key}={value}", members


def _ranked(trainings: pd.DataFrame, group: str, direction: int) -> pd.DataFrame:
    """The rows of one group."""
    keys = ["unit", *TRAINED_BASE, "budget"]
    named = [*keys, "strategy"]
    means = trainings.groupby(named, dropna=False).agg(
        value=("value", "mean"), seconds=("seconds", "mean"), extra=("extra", "mean"),
        arm=("arm", "first"),
    ).reset_index()  # fmt: skip
    means["cell"] = means.groupby(keys, dropna=False).ngroup()
    tested = (means["arm"] == "expansion").fillna(False).to_numpy(dtype=bool)
    if means.loc[tested, "strategy"].nunique() < 2:
        tested = np.ones(len(means), dtype=bool)
    references = means[tested].groupby("cell")["value"].agg(["mean", "size"])
    reference = references.loc[
        references["size"] > 1, "mean"
    ]  # a strategy that is alone has nothing to be compared with
    means["difference"] = means["value"] - means["cell"].map(reference)
    means = means[means["difference"].notna()]
    tested = tested[means.index]
    goal = direction * means["value"]
    means["rank"] = goal[tested].groupby(means["cell"]).rank(ascending=False)
    largest = goal[tested].groupby(means["cell"]).transform("max")
    means["best"] = (goal[tested] == largest).astype(float)
    means["best"] /= means.groupby("cell")["best"].transform("sum")
    if means.empty:
        return pd.DataFrame(columns=[*COLUMNS])
    wins = win_matrix(means, direction)
    parts = _parts(means[tested])
    chances = _best_probabilities(means[tested], direction) if parts == 1 else {}
    trained = trainings.groupby("strategy")["training"].nunique()
    block_ranks, distance = _block_ranks(means[tested], direction)
    rows = []
    for strategy, members in means.groupby("strategy"):
        others = wins.loc[strategy, [name for name in means.loc[tested, "strategy"].unique() if name != strategy]]
        extra, seconds = members["extra"].mean(), members["seconds"].mean()
        rows.append(
            {
                **{"strategy": strategy, "group": group, "arm": members["arm"].iloc[0], "n": int(trained[strategy])},
                "parts": parts,
                **{"n_cells": len(members), "n_base_models": members["unit"].nunique()},
                "mean": members["value"].mean(),
                **difference_of(members),
                **{"mean_rank": members["rank"].mean(), "block_rank": block_ranks.get(str(strategy), math.nan)},
                "critical_difference": distance,
                **{"win_share": others.mean(), "best_share": members["best"].mean()},
                "best_probability": chances.get(str(strategy), math.nan),
                "gain_per_gflop": members["value"].mean() / (extra / 1e9) if extra > 0 else math.nan,
                "gain_per_second": members["value"].mean() / seconds if seconds > 0 else math.nan,
                "train_seconds": seconds,
            }
        )
    table = pd.DataFrame(rows)
    order = table.assign(late=table["arm"] != "expansion", size=-direction * table["difference"])
    return table.loc[order.sort_values(["late", "size", "strategy"], kind="stable").index]


def difference_of(members: pd.DataFrame) -> dict[str, Any]:
    """The mean difference over base models with its interval and p-value; over seeds where there is one base model."""
    by_unit = members.groupby("unit")["difference"].mean()
    unit = "base models"
    if len(by_unit) == 1:
        by_unit, unit = members.groupby(TRAINED_BASE, dropna=False)["difference"].mean(), "seeds"
    n, mean = len(by_unit), float(by_unit.mean())
    found: dict[str, Any] = {"difference": mean, "unit": unit}
    error = float(by_unit.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    if not error > 1e-12:
        return {**found, "ci_low": math.nan, "ci_high": math.nan, "p_value": math.nan}
    half = t_quantile(n - 1) * error
    return {**found, "ci_low": mean - half, "ci_high": mean + half, "p_value": t_sided(mean / error, n - 1)}


def win_matrix(means: pd.DataFrame, direction: int) -> pd.DataFrame:
    """In which share of the cells that both have is the row's strategy better than the column's; ties count half.

    Args:
        means: one row per cell and strategy, with `value`.
        direction: -1 if a smaller value is better.

    Returns:
        Strategies against strategies; NaN where they share no cell.
    """
    table = means.pivot_table(index="cell", columns="strategy", values="value")
    values = direction * table.to_numpy(dtype=float)
    shares = np.full((values.shape[1],) * 2, np.nan)
    for one in range(values.shape[1]):
        gaps = (values[:, [one]] - values).round(12)
        both = np.isfinite(gaps).sum(axis=0)
        won = (gaps > 0).sum(axis=0) + (gaps == 0).sum(axis=0) / 2
        shares[one] = np.where(both > 0, won / np.maximum(both, 1), np.nan)
    np.fill_diagonal(shares, np.nan)
    return pd.DataFrame(shares, table.columns, table.columns)


def _parts(means: pd.DataFrame) -> int:
    """How many groups of strategies there are that no chain of shared cells connects."""
    strategies, cells = (pd.factorize(means[column])[0] for column in ("strategy", "cell"))
    nodes = int(strategies.max()) + 1 + int(cells.max()) + 1
    links = coo_array((np.ones(len(means)), (strategies, strategies.max() + 1 + cells)), shape=(nodes, nodes))
    return int(connected_components(links, directed=False)[0])


def _blocks(means: pd.DataFrame) -> pd.DataFrame:
    """Mean differences: base models (or, with one, its seeds) against strategies."""
    rows = "unit" if means["unit"].nunique() > 1 else "seed"
    return means.pivot_table(index=rows, columns="strategy", values="difference")


def _best_probabilities(means: pd.DataFrame, direction: int) -> dict[str, float]:
    """How often each strategy is the best when blocks are drawn with replacement; one that a block lacks is skipped."""
    blocks = _blocks(means)
    if len(blocks) < FEW:
        return {}
    values = direction * blocks.to_numpy(dtype=float)
    drawn = np.random.default_rng(0).integers(len(values), size=(DRAWS, len(values)))
    counts = np.stack([(drawn == place).sum(axis=1) for place in range(len(values))], axis=1)
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        mean = (counts @ np.nan_to_num(values)) / (counts @ known)
    mean = np.where(np.isnan(mean), -np.inf, mean)
    best = mean == mean.max(axis=1, keepdims=True)
    shares = (best / best.sum(axis=1, keepdims=True)).mean(axis=0)
    return dict(zip(blocks.columns, shares.tolist(), strict=True))


def _block_ranks(means: pd.DataFrame, direction: int) -> tuple[dict[str, float], float]:
    """The mean rank over blocks of each strategy that all blocks have, and Nemenyi's critical difference at 5 %.

    Returns:
        The ranks, and q sqrt(k (k + 1) / (6 N)), q the 95 % point of the studentised range over sqrt(2), for k
        strategies and N blocks; nothing and NaN with fewer than two blocks or three strategies.
    """
    complete = direction * _blocks(means).dropna(axis=1)
    n, k = complete.shape
    if n < 2 or k < 3:
        return {}, math.nan
    q = float(stats.studentized_range.ppf(0.95, k, np.inf)) / math.sqrt(2)
    ranks = complete.round(12).rank(axis=1, ascending=False).mean()
    return dict(zip(complete.columns, ranks.tolist(), strict=True)), q * math.sqrt(k * (k + 1) / (6 * n))


def ranking(strategies: pd.DataFrame, group: str = "all") -> pd.DataFrame:
    """The rows of one group, expansions before controls."""
    return strategies[strategies["group"] == group].reset_index(drop=True)


def together(rows: pd.DataFrame) -> list[Sequence[str]]:
    """Strategies whose block ranks are no further apart than the critical difference: the bars of the picture.

    Args:
        rows: as of `ranking`.

    Returns:
        The longest runs of at least two strategies, best first.
    """
    tested = rows[rows["block_rank"].notna()].sort_values("block_rank")
    ranks, names = tested["block_rank"].to_numpy(dtype=float), tested["strategy"].tolist()
    distance = float(tested["critical_difference"].iloc[0]) if len(tested) else math.nan
    found: list[Sequence[str]] = []
    last = 0
    for start in range(len(ranks)):
        end = int(np.searchsorted(ranks, ranks[start] + distance + 1e-12, side="right")) if distance > 0 else 0
        if end - start > 1 and end > last:
            found.append(names[start:end])
            last = end
    return found
