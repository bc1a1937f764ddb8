"""The table of correlations for the terminal."""

from __future__ import annotations

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from mmbench.report.table import COST, EQUAL, INTERVAL, OVERALL, REGRET, RHO, SIGN, Column
from mmbench.statistics.judge import ranked

COLUMNS: tuple[Column, ...] = (
    SIGN,
    RHO,
    INTERVAL,
    ("n", lambda row: str(row["n_configurations"])),
    EQUAL,
    ("overall", OVERALL[1]),
    REGRET,
    COST,
)
SYMBOLS = {"baseline": " *", "lookup": " *", "negative control": " °", "positive control": " °"}
"""What follows the name of a metric of each role."""


def correlation_table(correlations: pd.DataFrame, target: str = "gain", group: str | None = None) -> Table:
    """The correlations of one target and group for the terminal, best agreement with the expected sign first.

    Args:
        correlations: as of `correlate`.
        target: what is predicted.
        group: which runs: `all`, or `key=value`; None: the expansions.

    Returns:
        A table for `rich`, 80 columns wide with names of usual length.
    """
    runs = "" if group is None else f", {group}"
    table = Table(
        title=Text(f"Spearman's rho of score and {target} among the expansions of a base model{runs}", "table.title"),
        caption="* baseline, ° control; n: configurations; overall: base models mixed\n"
        "regret: accuracy points lost by its first choice",
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
