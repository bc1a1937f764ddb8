"""Training curves of base and expanded models."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from mmbench.records.curves import Curve
from mmbench.report.figures.style import WIDTH, Looks
from mmbench.statistics.configurations import CONTROLS
from mmbench.text import shortened

PANELS = 4
"""The largest number of pairs of data set and model that are drawn."""


def panels_of(curves: Sequence[Curve]) -> list[tuple[str, str]]:
    """The pairs (data set, model) that are drawn: the first ones by name."""
    return sorted({(curve.dataset, curve.model) for curve in curves})[:PANELS]


def training_curves(curves: Sequence[Curve], looks: Looks) -> Figure:
    """Training loss against steps, a panel per data set and model, a line per operator; the base model in black."""
    panels = panels_of(curves)
    figure = Figure(figsize=(WIDTH, 0.9 + 2.3 * len(panels) + 0.1 * len(looks.operators)))
    for axes, panel in zip(_stack(figure, len(panels)), panels, strict=True):
        _panel(axes, [curve for curve in curves if (curve.dataset, curve.model) == panel], looks)
        axes.set_title(shortened(", ".join(panel), 50), loc="left")
    axes.set_xlabel("step")
    _add_legend(figure, looks)
    return figure


def _stack(figure: Figure, count: int) -> list[Axes]:
    return [figure.add_subplot(count, 1, place + 1) for place in range(count)]


def _panel(axes: Axes, curves: Sequence[Curve], looks: Looks) -> None:
    """The mean curve of each operator and length over all runs and configurations, on a logarithmic axis."""
    for (operator, _), lines in _grouped(curves).items():
        steps = np.mean([curve.steps for curve in lines], axis=0)
        losses = np.mean([curve.losses for curve in lines], axis=0)
        base = operator == ""
        axes.plot(steps, losses, color="#000000" if base else looks.of(operator).colour, zorder=3 if base else 2,
                  linestyle=":" if base else "--" if operator in CONTROLS else "-",
                  linewidth=2 if base else 1.3)  # fmt: skip
    if min(min(curve.losses) for curve in curves) > 0:
        axes.set_yscale("log")
        plain = FuncFormatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_major_formatter(plain)
        low, high = axes.get_ylim()
        if high >= 8 * low:
            axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
        axes.yaxis.set_minor_formatter(plain if high < 500 * low else NullFormatter())
    axes.set_ylabel("training loss, nats")


def _grouped(curves: Sequence[Curve]) -> dict[tuple[str, tuple[float, ...]], list[Curve]]:
    """Curves of one operator that have their points at the same steps, in order."""
    groups: dict[tuple[str, tuple[float, ...]], list[Curve]] = {}
    for curve in sorted(curves, key=lambda curve: (curve.operator, curve.steps)):
        groups.setdefault((curve.operator, curve.steps), []).append(curve)
    return groups


def _add_legend(figure: Figure, looks: Looks) -> None:
    handles = [Line2D([], [], color="#000000", linestyle=":", linewidth=2, label="base model")]
    for name in looks.operators:
        line = Line2D([], [], color=looks.of(name).colour, linewidth=1.6, label=name)
        line.set_linestyle("--" if name in CONTROLS else "-")
        handles.append(line)
    figure.legend(handles=handles, loc="outside lower center", ncols=2, columnspacing=1.2)
