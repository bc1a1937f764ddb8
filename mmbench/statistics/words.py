"""What a table may not be read to say: where numbers are too few, or these runs have no answer."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from mmbench.statistics.controls import LOOKUP, SECOND
from mmbench.statistics.correlation import BASES

ENOUGH = 10
"""Configurations below which no conclusion is drawn."""


def counted(n: int, thing: str) -> str:
    """`1 base model`, `2 base models`."""
    return f"{n} {thing}" + ("" if n == 1 else "s")


def of_row(row: dict[str, Any]) -> str:
    """What limits one row of `correlate`; empty if nothing does."""
    n, metric = row["n_configurations"], row["metric"]
    if n == 0 and metric == LOOKUP:
        return "No lookup table: it needs the same operators on another data set."
    if n == 0 and metric == SECOND:
        return "No second training: it needs a second seed."
    if n == 0:
        return "Nothing to judge: no run of it has both a score and this target."
    if n < 3:
        return f"Too few to say: only {counted(n, 'configuration')}."
    if math.isnan(row["spearman"]):
        return "No correlation: the score or the target is the same everywhere."
    said = []
    if n < ENOUGH:
        said.append(f"Too few to say: only {counted(n, 'configuration')}.")
    elif row["n_base_models"] < BASES:
        said.append(f"Holds for {counted(row['n_base_models'], 'base model')} only; nothing is known of others.")
    if not row["equal_budget_cells"] and metric.partition("@")[0] != "parameters":
        said.append("No group of equal budget has three configurations that differ.")
    elif 0 < row["equal_budget_n"] < ENOUGH:
        said.append(f"Equal budget: only {counted(row['equal_budget_n'], 'configuration')}.")
    return " ".join(said)


def of_sweep(table: pd.DataFrame, reliabilities: pd.DataFrame, unfinished: dict[str, int]) -> list[str]:
    """What limits everything that these runs can say."""
    done = table[table["done"]]
    if table.empty:
        return ["There is no run yet."]
    if done.empty:
        return ["No run is done: there is nothing to judge."]
    said = []
    left = unfinished.get("missing", 0)
    if left:
        running = unfinished.get("running", 0)
        said.append(
            f"The sweep is not finished: {counted(left, 'run')} missing, {running} of them running. "
            "What is done first need not be like the rest."
        )
    configurations, bases = done["number"].nunique(), done.groupby(["dataset", "base"], dropna=False).ngroups
    if configurations < ENOUGH:
        said.append(f"Only {counted(configurations, 'configuration')}: too few for any conclusion.")
    if bases < BASES:
        said.append(
            f"Only {counted(bases, 'base model')}: intervals take configurations as independent, and speak of other "
            f"expansions of {'this' if bases == 1 else 'these'}, not of other base models."
        )
    if done["dataset"].nunique() < 2:
        said.append("One data set: nothing is known of transfer, and there is no lookup table.")
    if not (reliabilities["seeds"] > 1).any():
        said.append("One seed: nothing is known of noise, of its ceiling, or of a second training.")
    noisy = reliabilities[reliabilities["mean"] < 0.5]
    for _, row in noisy.iterrows():
        said.append(
            f"The {row['target'].replace('_', ' ')} hardly repeats from seed to seed (reliability {row['mean']:.2f}, "
            f"as far as {row['seeds']:g} seeds can tell): a correlation far above {row['ceiling']:.2f} is more likely "
            "luck than foresight."
        )
    return said
