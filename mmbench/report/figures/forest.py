"""The overview: the rank correlation of each metric with the gain within base models, and at equal budget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mmbench.report.figures.style import AGREES, CONTRADICTS, INK, OPEN, SHADE, WIDTH, correlation_axis
from mmbench.statistics.judge import decided
from mmbench.text import expected, interval, shortened, signed


def forest(rows: pd.DataFrame) -> Figure:
    """A row per metric: rho within base models with its interval, and below it, thinner, the value at equal budget.

    Args:
        rows: as of `ranked`.

    Returns:
        The figure.
    """
    figure = Figure(figsize=(WIDTH, 1.7 + 0.3 * len(rows)))
    axes = figure.subplots()
    for place, row in enumerate(rows.to_dict("records")):
        _draw_row(axes, place, row)
    correlation_axis(axes)
    labels = [f"{shortened(row.metric)} ({expected(row.expected_sign)})" for row in rows.itertuples()]
    axes.set_yticks(np.arange(len(rows)), labels)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("ρ with the gain, among the expansions\nof a base model")
    figure.legend(handles=_legend(), loc="outside lower center", ncols=2, columnspacing=1.2, handletextpad=0.5)
    return figure


def forest_alt(rows: pd.DataFrame) -> str:
    """The figure in words."""
    values = "; ".join(
        f"{row['metric']} {signed(row['within_base_spearman'])} "
        f"{interval(row['within_base_low'], row['within_base_high'])}, "
        f"equal budget {signed(row['equal_budget_spearman'])}"
        for row in rows.to_dict("records")
    )
    return (
        "Spearman correlation of each metric with the gain among the expansions of a base model, best agreement with "
        f"theory first: {values}."
    )


def colour(row: Mapping[Any, Any]) -> str:
    """Blue for a correlation that is decided and as expected, orange against expectation, grey for all others."""
    if not decided(row) or pd.isna(row["expected_sign"]) or row["expected_sign"] == 0:
        return OPEN
    return AGREES if row["within_base_spearman"] * row["expected_sign"] > 0 else CONTRADICTS


def _draw_row(axes: Axes, place: int, row: Mapping[Any, Any]) -> None:
    tested = not row["role"]
    if not tested:
        axes.axhspan(place - 0.5, place + 0.5, color=SHADE, linewidth=0, zorder=0)
    if pd.isna(row["within_base_spearman"]):
        axes.text(0, place, "not defined", ha="center", va="center", fontsize=8, color=OPEN,
                  bbox={"facecolor": "white" if tested else SHADE, "linewidth": 0, "pad": 1})  # fmt: skip
        return
    ink = colour(row)
    above, below = place - 0.13, place + 0.22
    ends = [row["within_base_low"], row["within_base_high"]]
    axes.plot(ends, [above, above], color=ink, linewidth=2, zorder=2)
    face = ink if tested else "white"
    look: dict[str, Any] = {"marker": "o" if tested else "D", "markersize": 6.5 if tested else 5.5, "linestyle": "none"}
    look |= {"markerfacecolor": face, "markeredgecolor": ink, "markeredgewidth": 1.4}
    axes.plot(row["within_base_spearman"], above, **look, zorder=3)
    low, high = row.get("equal_budget_low", np.nan), row.get("equal_budget_high", np.nan)
    axes.plot([low, high], [below, below], color=INK, linewidth=0.8, zorder=2)
    axes.plot(row["equal_budget_spearman"], below, marker="|", markersize=7, markeredgewidth=1.8, color=INK, zorder=3)


def _legend() -> list[Line2D]:
    thick: dict[str, Any] = {"linewidth": 2, "marker": "o", "markersize": 6}
    lines = {"as expected": AGREES, "against expectation": CONTRADICTS, "open (includes 0, or no sign)": OPEN}
    entries = [Line2D([], [], color=ink, label=label, **thick) for label, ink in lines.items()]
    hollow: dict[str, Any] = {"marker": "D", "markersize": 5.5, "markerfacecolor": "white", "markeredgecolor": INK}
    thin: dict[str, Any] = {"marker": "|", "markersize": 7, "markeredgewidth": 1.8, "linewidth": 0.8}
    return [
        *entries,
        Line2D([], [], label="baseline or control", linestyle="none", markeredgewidth=1.4, **hollow),
        Line2D([], [], label="at equal budget", color=INK, **thin),
    ]
