"""Tables as data, and the text of the columns of the correlations."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from markupsafe import Markup

from mmbench.text import DASH, expected, interval, is_missing, percent, points, signed

Row = Mapping[Any, Any]
Column = tuple[str, Callable[[Row], str]]
"""A heading, and the text of a row's cell below it."""

MOST = 60
"""Rows of a table that grows with the data; the rest is in the CSV."""


@dataclass(frozen=True)
class Table:
    """A table of a report. Cells and headings are text, which the template escapes, or markup."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    """The first cell heads its row."""
    caption: str = ""
    kind: str = "numbers"
    """Its class in the style sheet; `words` aligns to the left."""
    running: Collection[int] = ()
    """The columns of running text, which may wrap."""
    shaded: Collection[int] = ()
    """The rows of baselines and controls."""

    def text_class(self, column: int) -> Markup:
        """The class attribute of a column's cells."""
        return Markup(' class="text"' if column in self.running else "")

    def without_empty(self, *optional: int) -> Table:
        """The table without those optional columns that are empty in every row."""
        dropped = {column for column in optional if not any(cells[column] for cells in self.rows)}
        kept = [column for column in range(len(self.headings)) if column not in dropped]
        return Table(
            headings=[self.headings[column] for column in kept],
            rows=[[cells[column] for column in kept] for cells in self.rows],
            caption=self.caption,
            kind=self.kind,
            running={kept.index(column) for column in self.running if column in kept},
            shaded=self.shaded,
        )


def metrics_table(rows: pd.DataFrame, columns: Sequence[Column], caption: str) -> Table:
    """A table with one row per metric.

    Args:
        rows: rows of the correlations.
        columns: what is shown beside the name of the metric.
        caption: what the table shows.

    Returns:
        The table, with baselines and controls shaded.
    """
    records = rows.to_dict("records")
    return Table(
        headings=["metric", *(heading for heading, _ in columns)],
        rows=[[named(row), *(show(row) for _, show in columns)] for row in records],
        caption=caption,
        shaded=shaded(records),
    )


def crossed_table(
    corner: str,
    labels: Sequence[str],
    metrics: Sequence[str],
    cells: Mapping[tuple[str, str], str],
    caption: str,
    across: str = "metric",
) -> Table | None:
    """A table of metrics against groups. The longer list forms the rows, so that the table stays narrow.

    Args:
        corner: what the labels are.
        labels: the groups, of which the first `MOST` are shown.
        metrics: the metrics.
        cells: the text of each (label, metric); a missing one is a dash.
        caption: what the table shows.
        across: what `metrics` are.

    Returns:
        The table; None without a label or without a metric.
    """
    if not labels or not metrics:
        return None
    shown = labels[:MOST]
    if len(metrics) > len(shown):
        rows = [[metric, *(cells.get((label, metric), DASH) for label in shown)] for metric in metrics]
        return Table([across, *shown], rows, caption)
    rows = [[label, *(cells.get((label, metric), DASH) for metric in metrics)] for label in shown]
    return Table([corner, *metrics], rows, caption)


def beyond(labels: Sequence[Any], file: str) -> str:
    """The end of a caption that says where the rows beyond the first `MOST` are."""
    return f"; {len(labels) - MOST} more groups are in {file}" if len(labels) > MOST else ""


def named(row: Row) -> Markup:
    """A metric's name with its role."""
    role = Markup(" <small>{}</small>").format(row["role"]) if row["role"] else ""
    return Markup("{}{}").format(row["metric"], role)


def shaded(rows: Sequence[Row]) -> set[int]:
    """The places of the rows that are baselines or controls."""
    return {place for place, row in enumerate(rows) if row["role"]}


def remark(row: Row) -> str:
    """What limits a row of a statistical table, as a sentence; empty where nothing does."""
    return "" if is_missing(row.get("remark")) else str(row["remark"])


# -- columns -----------------------------------------------------------------------------------------------------------


def column(name: str, show: Callable[[Any], str] = signed) -> Callable[[Row], str]:
    """A column as text; a dash where the row lacks it."""
    return lambda row: show(row.get(name))


def interval_of(low: str, high: str) -> Callable[[Row], str]:
    """The interval between two columns."""
    return lambda row: interval(row.get(low), row.get(high))


def sign(row: Row) -> str:
    """The expected sign; a dash where the metric names none."""
    return DASH if is_missing(row["expected_sign"]) else expected(row["expected_sign"])


def cost(row: Row) -> str:
    """The time of the metric as a share of the time of training."""
    share = row["cost_fraction"]
    if not is_missing(share) and 0 < share < 0.001:
        return "<0.1 %"
    return percent(share, 0 if is_missing(share) or share >= 0.0995 else 1)


SIGN: Column = ("sign", sign)
RHO: Column = ("ρ", column("within_base_spearman"))
INTERVAL: Column = ("95 % interval", interval_of("within_base_low", "within_base_high"))
OVERALL: Column = ("overall", column("spearman"))
PARTIAL: Column = ("partial", column("partial_spearman"))
EQUAL: Column = ("equal budget", column("equal_budget_spearman"))
REGRET: Column = ("regret", column("regret_at_1", points))
COST: Column = ("cost", cost)
