"""The correlations within groups of equal size."""

from __future__ import annotations

from typing import Any

import pandas as pd

from mmbench.report.sections.base import Results, Section
from mmbench.report.table import SIGN, Column, Table, beyond, column, crossed_table, interval_of, metrics_table
from mmbench.text import is_missing, percent, probability, signed


def text(value: Any) -> str:
    """A column of text; empty where it is missing."""
    return "" if is_missing(value) else str(value)


COLUMNS: tuple[Column, ...] = (
    SIGN,
    ("equal budget", column("equal_budget_spearman")),
    ("95 % interval", interval_of("equal_budget_low", "equal_budget_high")),
    ("q", column("equal_budget_q", probability)),
    ("groups with the sign", column("equal_budget_signs", text)),
    ("I²", column("equal_budget_i2", percent)),
    ("and equal architecture", column("equal_architecture_spearman")),
    ("95 % interval", interval_of("equal_architecture_low", "equal_architecture_high")),
    ("groups with the sign", column("equal_architecture_signs", text)),
    ("I²", column("equal_architecture_i2", percent)),
)


class EqualBudget(Section):
    """The mean over groups of equal budget, and each group."""

    title = "At equal budget"
    order = 20
    template = """
{% call beside(figure) %}
Larger networks gain more, and most scores grow with size. Within a group of one data set, base model and budget, size
cannot help. Each dot is a group, larger for more configurations; the diamond is the mean over groups. I² is the share
of the spread between groups that chance does not explain. Equal architecture: only the operator and its initialisation
differ.
{% endcall %}
{% if metrics %}{{ table(metrics) }}{% if groups %}{{ table(groups) }}{% endif %}
{% else %}<p>No group of equal budget has three configurations yet.</p>
{% endif %}
"""

    def content(self, results: Results) -> dict[str, Any] | None:
        """Two tables, once a group has enough configurations."""
        if results.rows.empty:
            return None
        known = results.rows[results.rows["equal_budget_spearman"].notna()]
        caption = "Rank correlation with the gain within groups of equal budget, mean over the groups"
        return {
            "figure": results.drawings.get("equal_budget"),
            "metrics": metrics_table(known, COLUMNS, caption) if len(known) else None,
            "groups": _groups(results, list(known["metric"])),
        }


def _groups(results: Results, metrics: list[str]) -> Table | None:
    groups = results.judgement.cells
    groups = groups[(groups["target"] == "gain") & (groups["kind"] == "equal_budget")]
    labels = sorted(set(groups["label"].dropna()))
    cells = {
        (row["label"], row["metric"]): f"{signed(row['spearman'])} ({row['n']})"
        for row in groups.to_dict("records")
        if not pd.isna(row["spearman"])
    }
    caption = "ρ with the gain in each group of equal budget (number of configurations)"
    return crossed_table("group", labels, metrics, cells, caption + beyond(labels, "cells.csv"))
