"""Correlations within groups of equal budget, where size cannot help: each group, and the mean over groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mmbench.report.figures.style import AGREES, CONTRADICTS, INK, OPEN, SHADE, WIDTH, correlation_axis
from mmbench.text import expected, interval, is_missing, percent, shortened, signed

SIZES = ((0, 6, 3.2), (6, 15, 4.2), (15, np.inf, 5.4))
"""The size of a group's dot, by its number of configurations."""


def equal_budget(rows: pd.DataFrame, groups: pd.DataFrame) -> Figure:
    """A row per metric: a dot for each group's rho, a diamond with an interval for the mean over groups.

    Args:
        rows: as of `ranked`; those without a mean are left out.
        groups: one row per metric and group, of one kind and target.

    Returns:
        The figure.
    """
    shown = rows[rows["equal_budget_spearman"].notna()].reset_index(drop=True)
    figure = Figure(figsize=(WIDTH, 1.8 + 0.32 * len(shown)))
    axes = figure.subplots()
    for place, row in enumerate(shown.to_dict("records")):
        if row["role"]:
            axes.axhspan(place - 0.5, place + 0.5, color=SHADE, linewidth=0, zorder=0)
        low, high = row.get("equal_budget_low", np.nan), row.get("equal_budget_high", np.nan)
        axes.plot([low, high], [place + 0.2, place + 0.2], color=INK, linewidth=1.6, zorder=3)
        axes.plot(row["equal_budget_spearman"], place + 0.2, marker="D", markersize=5.5, color=INK, zorder=4)
    places = {metric: place for place, metric in enumerate(shown["metric"])}
    _draw_groups(axes, groups.assign(place=groups["metric"].map(places)))
    correlation_axis(axes)
    axes.set_yticks(np.arange(len(shown)), [f"{shortened(r.metric)} ({expected(r.expected_sign)})" for r in
                                            shown.itertuples()])  # fmt: skip
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xlabel("ρ within groups of equal budget")
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
        f"{interval(row.get('equal_budget_low'), row.get('equal_budget_high'))} ({_note(row)})"
        for row in shown.to_dict("records")
    )
    return (
        "Spearman correlation with the gain within groups of one data set, base model and budget: mean over groups "
        f"and how many groups have the expected sign: {values}."
    )


def _draw_groups(axes: Axes, groups: pd.DataFrame) -> None:
    """The groups of all metrics in few calls: markers of one colour and size are one shape in the SVG."""
    known = groups[groups["spearman"].notna() & groups["place"].notna()]
    agrees = known["sign_agrees"].astype("boolean")
    for ink, chosen in ((AGREES, agrees), (CONTRADICTS, ~agrees), (OPEN, agrees.isna())):
        for low, high, size in SIZES:
            dots = known[chosen.fillna(False).to_numpy(bool) & known["n"].between(low, high, inclusive="left")]
            axes.plot(dots["spearman"], dots["place"] - 0.14, linestyle="none", marker="o", markersize=size,
                      color=ink, alpha=0.65, markeredgewidth=0, zorder=2)  # fmt: skip


def _note(row: Mapping[Any, Any]) -> str:
    """How many groups agree, and how much they differ beyond chance: `6 of 8, 40 %`."""
    signs, spread = row.get("equal_budget_signs"), row.get("equal_budget_i2")
    parts = ["" if is_missing(signs) else str(signs), "" if is_missing(spread) else percent(spread)]
    return ", ".join(part for part in parts if part)


def _legend() -> list[Line2D]:
    dot: dict[str, Any] = {"marker": "o", "linestyle": "none", "markersize": 5}
    return [
        Line2D([], [], color=AGREES, label="group, expected sign", **dot),
        Line2D([], [], color=CONTRADICTS, label="group, opposite sign", **dot),
        Line2D([], [], color=OPEN, label="group, no sign expected", **dot),
        Line2D([], [], color=INK, label="mean, 95 % interval", marker="D", markersize=5.5, linewidth=1.6),
    ]
