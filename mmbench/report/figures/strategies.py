"""The expansion strategies: how much more than the others each gains, and which mean ranks can be told apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmbench.report.figures.style import AGREES, CONTRADICTS, INK, OPEN, RULE, SHADE, WIDTH, points_axis
from mmbench.statistics.strategies import together
from mmbench.text import points, shortened


def strategies(rows: pd.DataFrame, target: str = "gain") -> Figure:
    """A row per strategy: its difference with interval; below, the mean ranks, with bars over those not told apart.

    Args:
        rows: as of `statistics.strategies.ranking`.
        target: what was compared.

    Returns:
        The figure.
    """
    ranked = rows["block_rank"].notna()
    tested = int(ranked.sum())
    high = 1.0 + 0.27 * len(rows)
    low = 0.9 + 0.17 * tested if tested > 2 else 0.0
    figure = Figure(figsize=(WIDTH, high + low))
    panels = figure.subplots(2 if low else 1, 1, height_ratios=[high, low] if low else None, squeeze=False)
    axes = panels[0][0]
    for place, row in enumerate(rows.to_dict("records")):
        _draw_row(axes, place, row)
    axes.axvline(0, color=RULE, linewidth=0.8)
    axes.set_yticks(np.arange(len(rows)), [shortened(name, 22) for name in rows["strategy"]])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(f"{target.replace('_', ' ')} minus the mean of the expansions, points")
    points_axis(axes, "x")
    if low:
        _draw_ranks(panels[1][0], rows[ranked])
    return figure


def strategies_alt(rows: pd.DataFrame) -> str:
    """The figure in words."""
    values = "; ".join(
        f"{row['strategy']} {points(row['difference'])} [{points(row['ci_low'])}, {points(row['ci_high'])}]"
        for row in rows.to_dict("records")
    )
    return f"Gain of each expansion strategy minus the mean of the expansions, in accuracy points: {values}."


def _draw_row(axes: Axes, place: int, row: Mapping[Any, Any]) -> None:
    control = row["arm"] != "expansion"
    if control:
        axes.axhspan(place - 0.5, place + 0.5, color=SHADE, linewidth=0, zorder=0)
    low, high = row["ci_low"], row["ci_high"]
    ink = AGREES if low > 0 else CONTRADICTS if high < 0 else OPEN
    axes.plot([low, high], [place, place], color=ink, linewidth=2, zorder=2)
    face = "white" if control else ink
    axes.plot(row["difference"], place, marker="D" if control else "o", markersize=5.5 if control else 6.5,
              markerfacecolor=face, markeredgecolor=ink, markeredgewidth=1.4, linestyle="none", zorder=3)  # fmt: skip


def _draw_ranks(axes: Axes, rows: pd.DataFrame) -> None:
    """The critical-difference picture: a line per strategy from its mean rank, bars over groups that stand together."""
    ordered = rows.sort_values("block_rank")
    for place, (name, rank) in enumerate(zip(ordered["strategy"], ordered["block_rank"], strict=True)):
        axes.plot([rank, rank], [-0.6, place + 0.5], color=INK, linewidth=0.9, zorder=2)
        axes.plot(rank, place + 0.5, marker="o", markersize=4, color=INK, zorder=3)
        axes.annotate(shortened(name, 22), (rank, place + 0.5), xytext=(5, 0), textcoords="offset points",
                      va="center", fontsize=8, annotation_clip=False)  # fmt: skip
    position = dict(zip(ordered["strategy"], ordered["block_rank"], strict=True))
    bars = together(ordered)
    for level, names in enumerate(bars):
        height = -0.5 + 0.4 * level / max(1, len(bars))
        axes.plot([position[names[0]], position[names[-1]]], [height, height], color=AGREES, linewidth=3,
                  solid_capstyle="butt", zorder=1)  # fmt: skip
    axes.set_ylim(len(ordered) + 0.1, -0.9)
    widest = float(ordered["block_rank"].max())
    axes.set_xlim(0.8, widest + 0.35 * (widest - 0.8) + 0.3)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False)
    distance = float(ordered["critical_difference"].iloc[0])
    axes.set_xlabel(f"mean rank over {rows['unit'].iloc[0]}\n(bars join ranks closer than {distance:.2f})")
