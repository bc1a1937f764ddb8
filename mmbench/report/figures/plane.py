"""The loss on planes through three networks, to scale: one unit of length is the same in every panel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator
from numpy.typing import NDArray

from mmbench.report.figures.style import INK, WIDTH
from mmbench.text import MINUS, shortened

Array = NDArray[np.float64]
LEVELS = 14


@dataclass(frozen=True)
class Panel:
    """One plane; lengths are distances in weight space."""

    row: str
    """What was expanded how."""
    column: str
    """`before training`, `after training`; empty for the base models, which have one panel."""
    corners: Array
    """(3, 2)."""
    x: Array
    y: Array
    losses: Array
    """(len(y), len(x)), nats."""


def planes(panels: Sequence[Panel], names: Sequence[str]) -> Figure:
    """A row per network, before and after training in two columns, with one scale and one colour scale for all.

    Args:
        panels: row by row.
        names: of the three points.

    Returns:
        The figure.
    """
    rows = list(dict.fromkeys(panel.row for panel in panels))
    columns = [name for name in dict.fromkeys(panel.column for panel in panels) if name]
    figure = Figure(figsize=(WIDTH, 0.9 + 2.2 * len(rows)))
    grid = figure.subplots(len(rows), max(1, len(columns)), squeeze=False)
    for axes in grid.flat:
        axes.set_visible(False)
    levels = _levels(np.concatenate([panel.losses.ravel() for panel in panels]))
    norm = LogNorm(levels[0], levels[-1])
    span = max(float(np.ptp(panel.x)) for panel in panels)
    for panel in panels:
        axes = grid[rows.index(panel.row)][columns.index(panel.column) if panel.column else 0]
        axes.set_visible(True)
        shown = np.clip(np.nan_to_num(panel.losses, nan=np.inf), levels[0], levels[-1])
        filled = axes.contourf(panel.x, panel.y, shown, levels, cmap="YlGnBu_r", norm=norm)
        axes.contour(panel.x, panel.y, shown, levels[1:-1:2], colors=INK, linewidths=0.4, alpha=0.7)
        axes.plot(*panel.corners.T, linestyle="none", marker="o", markersize=5, markerfacecolor="white",
                  markeredgecolor="#000000", zorder=5)  # fmt: skip
        for corner, name in zip(panel.corners, names, strict=True):
            axes.annotate(name, corner, xytext=(0, 6), textcoords="offset points", fontsize=7, zorder=6, ha="center",
                          bbox={"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.8})  # fmt: skip
        for limits, values in ((axes.set_xlim, panel.x), (axes.set_ylim, panel.y)):
            middle = (values[0] + values[-1]) / 2
            limits(middle - span / 2, middle + span / 2)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(5))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("-", MINUS)))
        axes.set_aspect("equal")
        axes.grid(visible=False)
        axes.tick_params(labelsize=7)
        axes.set_title("\n".join(part for part in (shortened(panel.row, 32), panel.column) if part), loc="left",
                       fontsize=8.5)  # fmt: skip
        if panel.row == rows[-1]:
            axes.set_xlabel("distance in weight space", fontsize=8.5)
    bar = figure.colorbar(filled, ax=grid, location="bottom", aspect=40, pad=0.02, shrink=0.9)
    ticks = levels[:: max(1, len(levels) // 6)]
    bar.set_ticks(list(ticks))
    bar.ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.2g}"))
    bar.ax.xaxis.set_minor_locator(NullLocator())
    bar.ax.tick_params(labelsize=7)
    bar.set_label("loss, nats", fontsize=8.5)
    return figure


def _levels(losses: Array) -> Array:
    """Losses at which the colour changes: equal ratios; the highest twentieth is one colour."""
    known = losses[np.isfinite(losses) & (losses > 0)]
    if not known.size:
        return np.geomspace(0.1, 1.0, LEVELS)
    low, high = float(known.min()), float(np.quantile(known, 0.95))
    return np.geomspace(low, max(high, 1.01 * low), LEVELS)


def planes_alt(panels: Sequence[Panel]) -> str:
    """The figure in words."""
    parts = [
        f"{', '.join(part for part in (panel.row, panel.column) if part)}: {np.nanmin(panel.losses):.2g} to "
        f"{np.nanmax(panel.losses):.2g}"
        for panel in panels
    ]
    return f"Loss in nats on the plane through three networks. {'; '.join(parts)}."
