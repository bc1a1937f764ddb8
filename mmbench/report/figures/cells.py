"""Inside groups of equal budget, where size cannot help: each group's sign, and all groups pooled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mmbench.report.figures.style import (
    AGREES,
    CONTRADICTS,
    INK,
    OPEN,
    SHADE,
    WIDTH,
    correlation_axis,
    expected,
    interval_text,
    shortened,
    signed,
)
from mmbench.statistics.controls import role

SIZES = ((0, 6, 3.2), (6, 15, 4.2), (15, np.inf, 5.4))
"""The size of a group's dot, by its number of configurations."""


def equal_budget(rows: pd.DataFrame, cells: pd.DataFrame) -> Figure:
    """A row per metric: a dot for each group's rho, a diamond with its interval for the pooled one.

    Args:
        rows: as of `ranked`; those without a pooled value are left out.
        cells: the cells of these metrics, of one kind and target.
    """
    shown = rows[rows["equal_budget_spearman"].notna()].reset_index(drop=True)
    figure = Figure(figsize=(WIDTH, 1.8 + 0.32 * len(shown)))
    axes = figure.subplots()
    for place, row in enumerate(shown.to_dict("records")):
        if role(row["metric"], row["expected_sign"]):
            axes.axhspan(place - 0.5, place + 0.5, color=SHADE, linewidth=0, zorder=0)
        low, high = row.get("equal_budget_low", np.nan), row.get("equal_budget_high", np.nan)
        axes.plot([low, high], [place + 0.2, place + 0.2], color=INK, linewidth=1.6, zorder=3)
        axes.plot(row["equal_budget_spearman"], place + 0.2, marker="D", markersize=5.5, color=INK, zorder=4)
    _draw_cells(axes, cells.assign(place=cells["metric"].map({metric: i for i, metric in enumerate(shown["metric"])})))
    correlation_axis(axes)
    axes.set_yticks(np.arange(len(shown)), [f"{shortened(r.metric)} ({expected(r.expected_sign)})" for r in
                                            shown.itertuples()])  # fmt: skip
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xlabel("ρ inside groups of equal budget")
    notes = axes.secondary_yaxis("right")
    notes.set_yticks(np.arange(len(shown)), [_note(row) for row in shown.to_dict("records")])
    notes.tick_params(length=0, labelsize=8)
    notes.spines["right"].set_visible(False)
    axes.set_title("as expected, I²", loc="right", fontsize=8)
    figure.legend(handles=_legend(), loc="outside lower center", ncols=2, columnspacing=1.2, handletextpad=0.3)
    return figure


def equal_budget_alt(rows: pd.DataFrame) -> str:
    """The figure in words."""
    shown = rows[rows["equal_budget_spearman"].notna()]
    values = "; ".join(
        f"{row['metric']} {signed(row['equal_budget_spearman'])} "
        f"{interval_text(row.get('equal_budget_low'), row.get('equal_budget_high'))} ({_note(row)})"
        for row in shown.to_dict("records")
    )
    return (
        "Spearman correlation with the gain inside groups of one data set, base model and budget, pooled, with the "
        f"number of groups that have the expected sign: {values}."
    )


def _draw_cells(axes: Axes, cells: pd.DataFrame) -> None:
    """The groups of all metrics in few calls: marks of one colour and size are one shape in the SVG."""
    known = cells[cells["spearman"].notna() & cells["place"].notna()]
    agrees = known["sign_agrees"].astype("boolean")
    for ink, chosen in ((AGREES, agrees), (CONTRADICTS, ~agrees), (OPEN, agrees.isna())):
        for low, high, size in SIZES:
            group = known[chosen.fillna(False).to_numpy(bool) & known["n"].between(low, high, inclusive="left")]
            axes.plot(group["spearman"], group["place"] - 0.14, linestyle="none", marker="o", markersize=size,
                      color=ink, alpha=0.65, markeredgewidth=0, zorder=2)  # fmt: skip


def _note(row: Mapping[Any, Any]) -> str:
    """How many groups agree, and how much they differ beyond chance: `6 of 8, 40 %`."""
    signs = row.get("equal_budget_signs")
    spread = row.get("equal_budget_i2")
    parts = ["" if pd.isna(signs) else str(signs), "" if pd.isna(spread) else f"{100 * float(spread):.0f} %"]
    return ", ".join(part for part in parts if part)


def _legend() -> list[Line2D]:
    dot: dict[str, Any] = {"marker": "o", "linestyle": "none", "markersize": 5}
    return [
        Line2D([], [], color=AGREES, label="group, expected sign", **dot),
        Line2D([], [], color=CONTRADICTS, label="group, opposite sign", **dot),
        Line2D([], [], color=OPEN, label="group, no sign expected", **dot),
        Line2D([], [], color=INK, label="pooled, 95 % interval", marker="D", markersize=5.5, linewidth=1.6),
    ]
