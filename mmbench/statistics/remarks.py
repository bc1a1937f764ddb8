"""Remarks on the tables: where there are too few configurations, or the runs cannot answer a question."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from mmbench.statistics.controls import LOOKUP, SECOND, SIZE
from mmbench.text import count, listed, metric_name

ENOUGH = 10
"""Configurations below which no conclusion is drawn."""


def too_few(n: int, what: str) -> str:
    """The remark on a number of configurations that allows no conclusion; empty if there are enough."""
    return "" if n >= ENOUGH else f"Too few to say: {what}."


def on_row(row: dict[str, Any]) -> str:
    """What limits one row of `correlate`; empty if nothing does."""
    n, metric = row["n_configurations"], row["metric"]
    if n == 0 and metric == LOOKUP:
        return "No lookup table: it needs the same operators on another data set."
    if n == 0 and metric == SECOND:
        return "No second training: it needs a second seed."
    if n == 0:
        return "Nothing to judge: no run of this metric has both a score and this target."
    few = too_few(n, f"only {count(n, 'configuration')}")
    if n < 3:
        return few
    if math.isnan(row["spearman"]):
        return "No correlation: the score or the target is the same everywhere."
    remarks = [few] if few else []
    if not few and row["n_base_models"] < 2:
        remarks.append("Holds for this base model only; nothing is known about others.")
    if not row["equal_budget_cells"] and metric_name(metric) != SIZE:
        remarks.append("No group of equal budget has three configurations that differ.")
    elif 0 < row["equal_budget_n"] < ENOUGH:
        remarks.append(f"Equal budget: only {count(row['equal_budget_n'], 'configuration')}.")
    return " ".join(remarks)


def on_sweep(runs: pd.DataFrame, reliabilities: pd.DataFrame, unfinished: dict[str, int]) -> list[str]:
    """The limits of these runs.

    Args:
        runs: as of `prepare`.
        reliabilities: the table of `judge`.
        unfinished: how many runs of the sweep are `missing`, and how many of these are `running`.

    Returns:
        One sentence or two for each limit.
    """
    done = runs[runs["done"]]
    if runs.empty:
        return ["There is no run yet."]
    if done.empty:
        return ["No run is done: there is nothing to judge."]
    remarks = []
    signs = runs.groupby("metric")["expected_sign"].nunique()
    if contradicting := sorted(map(str, signs.index[signs > 1])):
        remarks.append(
            f"The records of {listed(contradicting)} contradict each other on the expected sign: none is assumed."
        )
    missing = unfinished.get("missing", 0)
    if missing:
        remarks.append(
            f"The sweep is not finished: {count(missing, 'run')} missing, {unfinished.get('running', 0)} of them "
            "running. The runs that finish first may differ from the rest."
        )
    configurations, bases = done["number"].nunique(), done.groupby(["dataset", "base"], dropna=False).ngroups
    if configurations < ENOUGH:
        remarks.append(f"Only {count(configurations, 'configuration')}: too few for any conclusion.")
    if bases == 1:
        remarks.append("Only 1 base model: intervals hold for its other expansions, not for other base models.")
    if done["dataset"].nunique() < 2:
        remarks.append("One data set: transfer is unknown, and there is no lookup table.")
    if not (reliabilities["seeds"] > 1).any():
        remarks.append("One seed: the noise and its ceiling are unknown, and there is no second training.")
    for _, row in reliabilities[reliabilities["mean"] < 0.5].iterrows():
        remarks.append(
            f"The {row['target'].replace('_', ' ')} hardly repeats from seed to seed (reliability {row['mean']:.2f}, "
            f"estimated from {row['seeds']:.3g} seeds): a correlation far above {row['ceiling']:.2f} is more "
            "likely luck than a real prediction."
        )
    return remarks
