"""A heat map: how well the manifold metric ranks the gains, for each quantile and number of nodes."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mmbench.report.figures.style import INK, WIDTH
from mmbench.statistics.manifold_grid import Grid
from mmbench.statistics.moments import ALONG
from mmbench.text import signed


def grid_of_target(grid: Grid) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows and the choices that are drawn.

    They are of the paper's target, if the records hold it, and of the first set of options.

    Returns:
        Both tables; empty if there are none.
    """
    known = grid.table[grid.table["kendall_within"].notna()]
    target = next((target for target in ALONG if (known["target"] == target).any()), ALONG[0])
    metric = known["metric"].min() if len(known) else ""
    table, choices = (t[(t["target"] == target) & (t["metric"] == metric)] for t in (known, grid.choices))
    return table, choices


def heat_map(grid: Grid) -> Figure:
    """Kendall's tau at each q (rows) and n (columns); the fixed choice and the best of the grid are framed.

    Args:
        grid: as of `grid_of`, not empty.

    Returns:
        The figure.
    """
    table, choices = grid_of_target(grid)
    cells = table.pivot_table(index="q", columns="n", values="kendall_within")
    figure = Figure(figsize=(WIDTH, 1.5 + 0.42 * len(cells)))
    axes = figure.subplots()
    values = cells.to_numpy(dtype=float)
    image = axes.imshow(values, cmap="RdBu", vmin=-1, vmax=1, aspect="auto")
    for row, column in zip(*np.isfinite(values).nonzero(), strict=True):
        tau = values[row, column]
        axes.text(column, row, signed(tau), ha="center", va="center", fontsize=9,
                  color="white" if abs(tau) > 0.6 else INK)  # fmt: skip
    axes.set_xticks(range(len(cells.columns)), [f"{n:g}" for n in cells.columns])
    axes.set_yticks(range(len(cells)), [f"{q:g}" for q in cells.index])
    axes.set_xlabel("nodes n")
    axes.set_ylabel("quantile q")
    axes.grid(visible=False)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    handles = []
    for name, style, label, inset in (
        ("fixed", "-", "fixed beforehand", 0.07),
        ("best", ":", "best of the grid", 0.14),
    ):
        for row in choices[choices["choice"] == name].to_dict("records"):
            corner = (
                list(cells.columns).index(row["n"]) - 0.5 + inset / 2,
                list(cells.index).index(row["q"]) - 0.5 + inset,
            )
            frame = Rectangle(corner, 1 - inset, 1 - 2 * inset, fill=False, edgecolor="#000000", linewidth=1.8,
                              linestyle=style, label=label)  # fmt: skip
            axes.add_patch(frame)
            handles.append(frame)
    bar = figure.colorbar(image, ax=axes, pad=0.02, ticks=[-1, 0, 1])
    bar.ax.set_yticklabels([signed(-1)[:2], "0", "1"])
    bar.outline.set_visible(False)
    bar.set_label("Kendall's τ")
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def heat_map_alt(grid: Grid) -> str:
    """The figure in words."""
    table, choices = grid_of_target(grid)
    texts = [
        f"{row['choice']}: τ = {signed(row['kendall_within'])} at q = {row['q']:g}, n = {row['n']}"
        for row in choices.to_dict("records")
    ]
    low, high = table["kendall_within"].min(), table["kendall_within"].max()
    return (
        f"Kendall's tau of the manifold metric and the gain for {len(table)} settings of quantile and nodes, from "
        f"{signed(low)} to {signed(high)}; {'; '.join(texts)}."
    )
