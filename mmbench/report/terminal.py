"""The table of correlations for the terminal."""

from __future__ import annotations

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from mmbench.report.columns import SHORT, kind_of
from mmbench.statistics.judge import ranked

MARKS = {"baseline": " *", "lookup": " *", "negative control": " °", "positive control": " °"}


def correlation_table(correlations: pd.DataFrame, target: str = "gain", group: str = "all") -> Table:
    """The correlations of one target and group for the terminal, best agreement with the expected sign first."""
    words = "all runs" if group == "all" else group
    table = Table(
        title=Text(f"Spearman's rho of score and {target}, {words}", style="table.title"),
        caption="* baseline, ° control; n: configurations\nregret: accuracy points lost by its first choice",
        box=SIMPLE_HEAD, padding=0, title_justify="left", caption_justify="left",
    )  # fmt: skip
    table.add_column("metric", overflow="fold")
    for heading, _ in SHORT:
        table.add_column(
            heading.replace(" b", "\nb").replace(" i", "\ni"), justify="right", no_wrap=True, vertical="bottom"
        )
    for row in ranked(correlations, target, group).to_dict("records"):
        kind = kind_of(row)
        name = Text(str(row["metric"])).append(MARKS.get(kind, ""))
        table.add_row(name, *(Text(render(row)) for _, render in SHORT), style="dim" if kind else None)
    return table
