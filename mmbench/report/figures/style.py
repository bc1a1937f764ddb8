"""What all figures share: colours, markers, and how a figure is saved.

Everything is drawn on `Figure` objects, without pyplot: no display, and no global state is left changed. Colours are
Paul Tol's "muted" scheme (2021), which readers with colour blindness can tell apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from mmbench.statistics.configurations import CONTROLS
from mmbench.store.files import replacing
from mmbench.text import MINUS

PALETTE = ("#332288", "#CC6677", "#117733", "#DDAA33", "#88CCEE", "#882255", "#44AA99", "#999933", "#AA4499")
CONTROL_COLOURS = {"none": "#222222", "scratch": "#777777", "scratch_matched": "#A0A0A0"}
SHAPES = {"circle": "o", "square": "s", "triangle": "^", "diamond": "D", "down": "v", "plus": "P"}
"""Names of markers, and what matplotlib calls them."""
AGREES, CONTRADICTS, OPEN = "#0072B2", "#D55E00", "#767676"
INK, SHADE, RULE = "#333333", "#F1F1EC", "#888888"
WIDTH = 4.3
"""Inches of every figure: a column of a paper; its letters are still legible on a phone 375 pixels wide."""
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.edgecolor": RULE,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.constrained_layout.use": True,
    "text.parse_math": False,  # a name may hold a dollar sign
    "svg.hashsalt": "mmbench",  # the same records give the same bytes
}


@dataclass(frozen=True)
class Drawing:
    """One figure on disk, as PNG and SVG."""

    title: str
    alt: str
    """What a reader who cannot see the figure needs to know."""
    png: Path
    svg: Path


@dataclass(frozen=True)
class Look:
    """How the points of one operator on one axis are drawn."""

    colour: str
    edge: str
    hollow: bool
    shape: str


class Looks:
    """Which colour stands for which operator, and which shape for which axis; the same in every figure.

    Controls are hollow and grey. When the palette is used up, its colours are repeated with a dark edge; when the
    shapes are used up, they are repeated.
    """

    def __init__(self, operators: Iterable[Any], axes: Iterable[Any] = ()) -> None:
        names = sorted({str(name) for name in operators if not pd.isna(name)})
        grown = [name for name in names if name not in CONTROLS]
        self.operators = [*grown, *(name for name in names if name in CONTROLS)]
        self.axes = sorted({str(axis) for axis in axes if not pd.isna(axis)})
        self._places = {name: place for place, name in enumerate(grown)}
        shapes = list(SHAPES)
        self._shapes = {axis: shapes[place % len(shapes)] for place, axis in enumerate(self.axes)}

    @classmethod
    def of_runs(cls, frame: pd.DataFrame) -> Looks:
        """The looks for all figures of these runs."""
        done = frame[frame["status"] == "done"]
        axes = done["axis"].dropna().unique() if "axis" in done else ()
        return cls(done["expansion"], [axis for axis in axes if axis != "none"])

    def of(self, operator: Any, axis: Any = None) -> Look:
        """The look of an operator and axis; a grey circle for what is unknown."""
        name = "" if pd.isna(operator) else str(operator)
        shape = "circle" if pd.isna(axis) else self._shapes.get(str(axis), "circle")
        if name in CONTROL_COLOURS:
            return Look(CONTROL_COLOURS[name], CONTROL_COLOURS[name], hollow=True, shape=shape)
        place = self._places.get(name)
        if place is None:
            return Look(OPEN, "#FFFFFF", hollow=False, shape=shape)
        edge = "#FFFFFF" if place < len(PALETTE) else "#000000"
        return Look(PALETTE[place % len(PALETTE)], edge, hollow=False, shape=shape)

    def legend(self) -> list[Line2D]:
        """One entry per operator, then one per axis if there are several."""
        entries = []
        for name in self.operators:
            label = f"{name} (control)" if name in CONTROLS else name
            entries.append(Line2D([], [], label=label, markersize=7, linestyle="none", **marker(self.of(name))))
        grey: dict[str, Any] = {"color": "#BBBBBB", "markeredgecolor": "#555555", "linestyle": "none", "markersize": 6}
        if len(self.axes) > 1:
            entries += [Line2D([], [], label=f"axis: {axis}", marker=SHAPES[self._shapes[axis]], **grey)
                        for axis in self.axes]  # fmt: skip
        return entries


def marker(look: Look) -> dict[str, Any]:
    """Keywords of `Axes.plot` for a look."""
    return {
        "marker": SHAPES[look.shape],
        "markerfacecolor": "white" if look.hollow else look.colour,
        "markeredgecolor": look.edge,
        "markeredgewidth": 1.3 if look.hollow else 0.7,
    }


def correlation_axis(axes: Axes) -> None:
    """An x axis from -1 to 1 with a line at 0, for rows of metrics."""
    axes.axvline(0, color=RULE, linewidth=1, zorder=1)
    axes.set_xlim(-1.06, 1.06)
    axes.set_xticks([-1, -0.5, 0, 0.5, 1], [f"{MINUS}1", f"{MINUS}0.5", "0", "0.5", "1"])
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def points_axis(axes: Axes, axis: str = "y") -> None:
    """Label an axis of accuracies in percentage points, with true minus signs."""
    text = FuncFormatter(lambda value, _: f"{100 * value:.4g}".replace("-", MINUS))
    (axes.yaxis if axis == "y" else axes.xaxis).set_major_formatter(text)


def saved(figure: Figure, folder: Path, stem: str, title: str, alt: str) -> Drawing:
    """Write a figure as PNG and as SVG, each replaced whole; the same figure gives the same bytes.

    Args:
        figure: what was drawn. It cannot be drawn on afterwards.
        folder: an existing folder.
        stem: the name of both files, without their suffix.
        title: the figure's title.
        alt: the figure in words.

    Returns:
        The paths of both files, with title and text.

    Raises:
        OSError: The folder cannot be written to.
    """
    png, svg = folder / f"{stem}.png", folder / f"{stem}.svg"
    # The canvases are called directly, since `savefig` would draw everything twice.
    size = figure.dpi
    figure.dpi = 160
    with replacing(png) as path:
        FigureCanvasAgg(figure).print_png(path)
    figure.dpi = size
    figure.set_layout_engine("none")  # keep the layout of the PNG
    with replacing(svg) as path:
        FigureCanvasSVG(figure).print_svg(path, metadata={"Date": None})
    return Drawing(title, alt, png, svg)
