"""The table of correlations for the terminal."""

from __future__ import annotations

from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from mmbench.report.table import COST, EQUAL, INTERVAL, PARTIAL, REGRET, RHO, SIGN, Column
from mmbench.statistics.judge import ranked

COLUMNS: tuple[Column, ...] = (
    SIGN,
    RHO,
    INTERVAL,
    ("n", lambda row: str(row["n_configurations"])),
    EQUAL,
    PARTIAL,
    REGRET,
    COST,
)
SYMBOLS = {"baseline": " *", "lookup": " *", "negative control": " °", "positive control": " °"}
"""What follows the name of a metric of each role."""


NAME = 24
"""Characters of a metric's name that stay in one line; a longer name may be folded."""
FIRST_TO_GO = (COST, REGRET, PARTIAL, EQUAL, INTERVAL, COLUMNS[3], SIGN)
"""Columns that a narrow terminal does without, in this order."""


def correlation_table(
    correlations: pd.DataFrame, target: str = "gain", group: str = "all", width: int | None = None
) -> Table:
    """The correlations of one target and group for the terminal, best agreement with the expected sign first.

    Args:
        correlations: as of `correlate`.
        target: what is predicted.
        group: which runs: `all`, or `key=value`.
        width: of the terminal; columns are left out until the rest fits beside the metrics' names.

    Returns:
        A table for `rich`, 80 columns wide with names of usual length.
    """
    rows = ranked(correlations, target, group).to_dict("records")
    names = [str(row["metric"]) + SYMBOLS.get(row["role"], "") for row in rows]
    needed = min(max(map(len, names), default=NAME), NAME)
    columns = list(COLUMNS)
    while width is not None and len(columns) > 1 and _width(rows, columns, needed) > width:
        columns.remove(next(column for column in FIRST_TO_GO if column in columns))
    runs = "all runs" if group == "all" else group
    missing = [heading for heading, _ in COLUMNS if heading not in dict(columns)]
    caption = "* baseline, ° control; n: configurations\nregret: accuracy points lost by its first choice"
    table = Table(
        title=Text(f"Spearman's rho of score and {target}, {runs}", style="table.title"),
        caption=f"{caption}\nleft out for lack of width: {', '.join(missing)}" if missing else caption,
        box=SIMPLE_HEAD, padding=0, title_justify="left", caption_justify="left",
    )  # fmt: skip
    table.add_column("metric", overflow="fold", min_width=needed)
    for heading, _ in columns:
        table.add_column(_broken(heading), justify="right", no_wrap=True, vertical="bottom")
    for row, name in zip(rows, names, strict=True):
        table.add_row(Text(name), *(Text(show(row)) for _, show in columns), style="dim" if row["role"] else None)
    return table


def _broken(heading: str) -> str:
    """A heading in the terminal: in two lines, and in characters that have one width in every encoding."""
    return heading.replace(" b", "\nb").replace(" i", "\ni").replace("ρ", "rho")


def _width(rows: list[dict[Any, Any]], columns: list[Column], names: int) -> int:
    """The width of the table, in whose box each column has one character beside it."""
    total = names + 3
    for heading, show in columns:
        texts = [*_broken(heading).split("\n"), *(show(row) for row in rows)]
        total += 1 + max(map(len, texts))
    return total
