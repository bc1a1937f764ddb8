"""The table of correlations for the terminal."""

from __future__ import annotations

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


def correlation_table(correlations: pd.DataFrame, target: str = "gain", group: str = "all") -> Table:
    """The correlations of one target and group for the terminal, best agreement with the expected sign first.

    Args:
        correlations: as of `correlate`.
        target: what is predicted.
        group: which runs: `all`, or `key=value`.

    Returns:
        A table for `rich`, 80 columns wide with names of usual length.
    """
    runs = "all runs" if group == "all" else group
    table = Table(
        title=Text(f"Spearman's rho of score and {target}, {runs}", style="table.title"),
        caption="* baseline, ° control; n: configurations\nregret: accuracy points lost by its first choice",
        box=SIMPLE_HEAD, padding=0, title_justify="left", caption_justify="left",
    )  # fmt: skip
    table.add_column("metric", overflow="fold")
    for heading, _ in COLUMNS:
        table.add_column(
            heading.replace(" b", "\nb").replace(" i", "\ni"), justify="right", no_wrap=True, vertical="bottom"
        )
    for row in ranked(correlations, target, group).to_dict("records"):
        name = Text(str(row["metric"])).append(SYMBOLS.get(row["role"], ""))
        table.add_row(name, *(Text(show(row)) for _, show in COLUMNS), style="dim" if row["role"] else None)
    return table
