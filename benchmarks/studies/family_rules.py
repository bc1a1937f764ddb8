"""What the members of the manifold family are compared with: luck, what is known anyway, and joint ranks.

All functions take one row per sampler (empty: a rival), definition and configuration, as `family` makes them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from mmbench.statistics.correlation import ranks_within

Array = np.ndarray[Any, Any]

PERMUTATIONS = 200
ADVISED = ("permute_align(K=3, 0.05 of training)", "distance by pair, eps of the loss, unit none")
"""The default of `metric=manifold`, which advice is based on."""


def mean_interval(values: pd.Series) -> tuple[float, float, float]:
    """Mean, and Student's 95 % interval; NaN ends for fewer than two values."""
    n = len(values)
    if n < 2:
        return (float(values.mean()) if n else math.nan), math.nan, math.nan
    half = float(stats.t.ppf(0.975, n - 1)) * float(values.std()) / math.sqrt(n)
    return float(values.mean()), float(values.mean()) - half, float(values.mean()) + half


def luck(configurations: pd.DataFrame, cells: pd.DataFrame) -> float:
    """What the best definition reaches on the first half if gains are shuffled inside budgets."""
    inside = set(cells.loc[cells["half"] == "chosen on", "cell"])
    mine = configurations[(configurations["sampler"] != "") & configurations["cell"].isin(inside)]
    if mine.empty:
        return math.nan
    generator, means = np.random.default_rng(0), []
    for _, part in mine.groupby("cell"):
        scores = part.pivot_table(index="number", columns=["sampler", "definition"], values="score")
        known = part.drop_duplicates("number").set_index("number").loc[scores.index]
        place = np.unique(known["budget_cell"], return_inverse=True)[1]
        table = np.nan_to_num(np.column_stack([_standing(place, scores[name].to_numpy()) for name in scores]))
        goal = _standing(place, known["gain"].to_numpy())
        draws = np.column_stack([_shuffled(goal, place, generator) for _ in range(PERMUTATIONS)])
        norms = np.linalg.norm(table, axis=0)[:, None] * np.linalg.norm(goal)
        found = np.divide(table.T @ draws, norms, out=np.zeros((table.shape[1], PERMUTATIONS)), where=norms > 0)
        means.append(pd.DataFrame(found, index=scores.columns))
    together = pd.concat(means).groupby(level=[0, 1]).mean()
    return float(np.quantile(together.max(), 0.95))


def _shuffled(values: Array, place: Array, generator: np.random.Generator) -> Array:
    order = np.lexsort((generator.random(len(values)), place))
    shuffled = np.empty_like(values)
    shuffled[np.argsort(place, kind="stable")] = values[order]
    return shuffled


def _standing(place: Array, values: Array) -> Array:
    """Ranks inside budgets about 0, as shares of the budget; a missing value stands in the middle."""
    known = np.isfinite(values)
    standing = np.zeros(len(values))
    if known.any():
        inner = np.unique(place[known], return_inverse=True)[1]
        n = np.bincount(inner)[inner]
        standing[known] = (ranks_within(inner, values[known]) - (n + 1) / 2) / n
    return standing


KNOWN = ("parameters", "depth", "loss_after_k_steps")
"""What is known of every candidate anyway, at the price of a tenth of its training."""


def increments(configurations: pd.DataFrame, summary: pd.DataFrame) -> pd.DataFrame:
    """Leave-one-cell-out: a linear rule on ranks inside budgets, fitted on the other cells, tested on the one left out.

    The rules: each thing known by itself, all of them, and with the definitions added that were best on the first half,
    at any cost and at a tenth of the training.

    Returns:
        One row per rule: its cells, and the mean correlation with Student's interval.
    """
    columns = configurations.pivot_table(index=["cell", "number"], columns=["sampler", "definition"], values="score")
    about = configurations.drop_duplicates("number").set_index(["cell", "number"]).loc[columns.index]
    place = np.unique(about["budget_cell"], return_inverse=True)[1]
    goal = _standing(place, about["gain"].to_numpy())
    cell = about.index.get_level_values("cell").to_numpy()
    known = [("", name) for name in KNOWN if ("", name) in columns]
    mine = summary[summary["sampler"] != ""]
    best = [tuple(rows.iloc[0][["sampler", "definition"]])
            for rows in (mine, mine[mine["cost"] <= 0.1]) if len(rows)]  # fmt: skip
    rules: dict[str, list[Any]] = {name: [("", name)] for _, name in known}
    rules[" + ".join(name for _, name in known)] = known
    for chosen in dict.fromkeys(best):
        label = ": ".join(chosen)
        rules |= {label: [chosen], " + ".join([*(name for _, name in known), label]): [*known, chosen]}
        if ("", "depth") in known:
            rules[f"depth + {label}"] = [("", "depth"), chosen]
    rows = []
    for label, features in rules.items():
        if not features:
            continue
        x = np.column_stack([_standing(place, columns[name].to_numpy()) for name in features])
        found = []
        for out in np.unique(cell):
            fit, test = cell != out, cell == out
            weights = np.linalg.lstsq(x[fit], goal[fit])[0]
            guess = _standing(place[test], np.round(x[test] @ weights, 12))
            norm = np.linalg.norm(guess) * np.linalg.norm(goal[test])
            found.append(float(guess @ goal[test] / norm) if norm > 0 else 0.0)
        mean, low, high = mean_interval(pd.Series(found))
        rows.append({"rule": label, "cells": len(found), "mean": mean, "low": low, "high": high})
    return pd.DataFrame(rows)


def together(configurations: pd.DataFrame) -> pd.DataFrame:
    """More rows: the mean rank, inside a budget, of the default of `manifold` and each rival."""
    index = ["cell", "budget_cell", "number"]
    mine = configurations[
        (configurations["sampler"] == ADVISED[0]) & (configurations["definition"] == ADVISED[1])
    ].set_index(index)
    found = []
    for name, part in configurations[configurations["sampler"] == ""].groupby("definition"):
        rival = part.set_index(index)
        both = mine.join(rival[["score", "seconds"]].add_suffix("_rival"), how="inner")
        ranks = [both.groupby(level=[0, 1])[column].rank(pct=True) for column in ("score", "score_rival")]
        both["score"] = (ranks[0] + ranks[1]) / 2
        both["seconds"] += both.pop("seconds_rival")
        label = f"mean rank of manifold and {name}"
        found.append(both.drop(columns="score_rival").reset_index().assign(sampler="", definition=label))
    return pd.concat(found, ignore_index=True) if found else configurations.head(0)
