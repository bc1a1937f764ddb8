"""One metric's score against the gain, a marker per configuration and a faint one per run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from mmbench.report.figures.style import RULE, WIDTH, Looks, marker, points_axis
from mmbench.text import interval, power, signed

THRESHOLD = 100
"""Scores that span more than this factor get a logarithmic axis."""


def scatter(averages: pd.DataFrame, points: pd.DataFrame, row: Mapping[Any, Any], looks: Looks) -> Figure:
    """Score against gain for one metric.

    Args:
        averages: its rows of `configurations`.
        points: its rows of `runs`.
        row: its row of `correlate`.
        looks: of all metrics, so that a colour means the same in each figure.

    Returns:
        The figure.
    """
    entries = looks.legend()
    longest = max((len(str(entry.get_label())) for entry in entries), default=0)
    columns = 3 if longest <= 17 else 2 if longest <= 30 else 1
    figure = Figure(figsize=(WIDTH, 3.6 + 0.19 * -(-len(entries) // columns)))
    axes = figure.subplots()
    scores = pd.concat([averages["score"], points["score"]]).to_numpy(float)
    _apply(axes, *axis_scale(scores))
    axes.axhline(0, color=RULE, linewidth=0.8, zorder=1)
    _draw_runs(axes, averages, points, looks)
    for (operator, axis), group in averages.groupby(["expansion", "axis"], dropna=False):
        axes.plot(group["score"], group["target"], linestyle="none", markersize=7, zorder=3,
                  **marker(looks.of(operator, axis)))  # fmt: skip
    axes.set_xlabel(f"score ({theory(row['expected_sign'])})")
    axes.set_ylabel("gain, accuracy points")
    points_axis(axes)
    axes.set_title(f"{row['metric']}\n", loc="left", fontweight="bold")
    axes.text(0, 1.02, summary(row), transform=axes.transAxes, fontsize=8.5, va="bottom")
    figure.legend(handles=entries, loc="outside lower center", ncols=columns, handletextpad=0.1, columnspacing=1)
    return figure


def summary(row: Mapping[Any, Any]) -> str:
    """A summary of a row of `correlate`: rho, its interval, and the numbers of expansions and runs."""
    if pd.isna(row["within_base_spearman"]):
        rho = "ρ within base models undefined"
    else:
        ends = interval(row["within_base_low"], row["within_base_high"])
        rho = f"ρ within base models = {signed(row['within_base_spearman'])} {ends}".removesuffix(" –")
    return f"{rho}, n = {row['n_configurations']} ({row['n']} runs)"


def theory(sign: Any) -> str:
    """A metric's expected sign in words."""
    if pd.isna(sign) or sign == 0:
        return "theory says nothing"
    return f"theory: {'larger' if sign > 0 else 'smaller'} is better"


def axis_scale(scores: np.ndarray[Any, Any]) -> tuple[str, float]:
    """Which scale suits the scores: `linear`, `log` or `symlog`.

    Logarithmic where the scores span more than two decades; symlog where some of them are zero or negative. Scores of
    both signs always come near 0, so there the span is counted from their median.

    Returns:
        The name of the scale, and the size below which symlog is linear.
    """
    size = np.abs(scores[scores != 0])
    if not size.size:
        return "linear", 1.0
    positive = bool(scores.min() > 0)
    if size.max() < THRESHOLD * np.quantile(size, 0.05 if positive else 0.5):
        return "linear", 1.0
    return "log" if positive else "symlog", float(10 ** np.floor(np.log10(np.quantile(size, 0.25))))


def _draw_runs(axes: Axes, averages: pd.DataFrame, points: pd.DataFrame, looks: Looks) -> None:
    """The runs of configurations with several, each joined to its configuration, in few calls."""
    centres = averages.loc[averages["n"] > 1, ["configuration", "base", "score", "target"]]
    centres = centres.rename(columns={"score": "score_mean", "target": "gain_mean"})
    joined = points.merge(centres, on=["configuration", "base"])
    if joined.empty:
        return
    gap = np.full(len(joined), np.nan)
    lines = [np.column_stack([joined[a], joined[b], gap]).ravel() for a, b in
             (("score", "score_mean"), ("gain", "gain_mean"))]  # fmt: skip
    axes.plot(*lines, color="#000000", alpha=0.1, linewidth=0.8, zorder=1.5)
    for (operator, axis), group in joined.groupby(["expansion", "axis"], dropna=False):
        axes.plot(group["score"], group["gain"], linestyle="none", markersize=3.5, alpha=0.4, zorder=2,
                  **marker(looks.of(operator, axis)))  # fmt: skip


def _apply(axes: Axes, scale: str, linear: float) -> None:
    if scale == "linear":
        axes.xaxis.set_major_locator(MaxNLocator(6))
        return
    axes.set_xscale(scale, **({"linthresh": linear} if scale == "symlog" else {}))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: power(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
