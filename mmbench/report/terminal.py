"""Tables for the terminal: correlations, strategies, two stores."""

from __future__ import annotations

from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from mmbench.report.table import COST, EQUAL, INTERVAL, OVERALL, REGRET, RHO, SIGN, Column
from mmbench.statistics.judge import ranked
from mmbench.text import DASH, is_missing, number, percent, points, signed

COLUMNS: tuple[Column, ...] = (
    SIGN,
    RHO,
    INTERVAL,
    ("n", lambda row: str(row["n_configurations"])),
    EQUAL,
    OVERALL,
    REGRET,
    COST,
)
SYMBOLS = {"baseline": " *", "lookup": " *", "negative control": " °", "positive control": " °"}
"""What follows the name of a metric of each role."""


NAME = 24
"""Characters of a metric's name that stay in one line; a longer name may be folded."""
FIRST_TO_GO = (COST, REGRET, OVERALL, EQUAL, INTERVAL, COLUMNS[3], SIGN)
"""Columns that a narrow terminal does without, in this order."""


def correlation_table(
    correlations: pd.DataFrame, target: str = "gain", group: str | None = None, width: int | None = None
) -> Table:
    """The correlations of one target and group for the terminal, best agreement with the expected sign first.

    Args:
        correlations: as of `correlate`.
        target: what is predicted.
        group: which runs: `all`, or `key=value`; None: the expansions.
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
    runs = "" if group is None else f", {group}"
    missing = [heading for heading, _ in COLUMNS if heading not in dict(columns)]
    caption = (
        "* baseline, ° control; n: configurations; overall: base models mixed\n"
        "regret: accuracy points lost by its first choice"
    )
    title = f"Spearman's rho of score and {target} among the expansions of a base model{runs}"
    table = Table(
        title=Text(title, style="table.title"),
        caption=f"{caption}\nleft out for lack of width: {', '.join(missing)}" if missing else caption,
        box=SIMPLE_HEAD, padding=0, title_justify="left", caption_justify="left",
    )  # fmt: skip
    table.add_column("metric", overflow="fold", min_width=needed)
    for heading, _ in columns:
        table.add_column(_broken(heading), justify="right", no_wrap=True, vertical="bottom")
    for row, name in zip(rows, names, strict=True):
        table.add_row(Text(name), *(Text(show(row)) for _, show in columns), style="dim" if row["role"] else None)
    return table


def strategy_table(rows: pd.DataFrame, target: str = "gain") -> Table:
    """The strategies of one group for the terminal, the best first, controls below.

    Args:
        rows: as of `statistics.strategies.ranking`.
        target: what was compared.

    Returns:
        A table for `rich`, 80 columns wide.
    """
    table = Table(
        title=Text(f"{target.replace('_', ' ').capitalize()} of the expansion strategies, points", "table.title"),
        caption="difference: from the mean of the expansions of the same base model and budget\n"
        "° control, a line to beat; wins: against another strategy; P: of being the best",
        box=SIMPLE_HEAD, padding=0, title_justify="left", caption_justify="left",
    )  # fmt: skip
    table.add_column("strategy", overflow="fold")
    for heading in ("mean", "difference", "95 % interval", "rank", "wins", "P", "trainings"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows.to_dict("records"):
        control = row["arm"] != "expansion"
        ends = DASH if is_missing(row["ci_low"]) else f"[{points(row['ci_low'])}, {points(row['ci_high'])}]"
        table.add_row(
            Text(str(row["strategy"])).append(" °" if control else ""), points(row["mean"]), points(row["difference"]),
            Text(ends), signed(row["mean_rank"]), percent(row["win_share"]), percent(row["best_probability"]),
            str(row["n"]), style="dim" if control else None,
        )  # fmt: skip
    return table


def store_table(rows: pd.DataFrame, first: str, second: str) -> Table:
    """Two stores on the runs that they share.

    Args:
        rows: as of `compare_stores`.
        first: the one store.
        second: the other.

    Returns:
        A table for `rich`.
    """
    table = Table(
        title=Text(f"{second} minus {first}, on the runs that both have", "table.title"),
        box=SIMPLE_HEAD, padding=0, title_justify="left",
    )  # fmt: skip
    table.add_column("value", overflow="fold")
    for heading in ("runs", "differ", "first", "second", "difference", "95 % interval"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows.to_dict("records"):
        name = str(row["column"]) if is_missing(row["metric"]) else f"score of {row['metric']}"
        ends = DASH if is_missing(row["ci_low"]) else f"[{number(row['ci_low'])}, {number(row['ci_high'])}]"
        values = (number(row[key]) for key in ("first", "second", "difference"))
        table.add_row(Text(name), str(row["n"]), str(row["n_different"]), *values, Text(ends))
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
