"""The cost of choosing by each metric, and how many accuracy points the choice is below the best expansion."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from mmbench.report.figures.style import INK, PALETTE, RULE, WIDTH, points_axis
from mmbench.text import metric_name, percent, points, shortened

MARKERS = "osD^vPX*"


def highlighted(rows: pd.DataFrame, curve: pd.DataFrame) -> list[str]:
    """The metrics that get a colour: manifold, the baselines a claim must beat, and the best others; at most eight."""
    drawn = rows[rows["metric"].isin(curve["metric"])]
    names = [str(name) for name in drawn["metric"]]
    tested = {str(name) for name in drawn.loc[drawn["role"] == "", "metric"]}
    first = [name for name in names if metric_name(name) == "manifold"]
    first += [name for name in ("parameters", "loss_after_k_steps", "lookup_table") if name in names]
    once = curve[curve["k"] == 1].set_index("metric")["regret"]
    rest = [name for name in names if name in tested and name not in first]
    return [*first, *sorted(rest, key=lambda name: (once.get(name, float("inf")), name))][:8]


def regret(rows: pd.DataFrame, curve: pd.DataFrame) -> Figure:
    """Regret against cost, a line per metric: at point k its first k choices are trained to the end.

    Args:
        rows: as of `ranked`.
        curve: the regret curve of one target.

    Returns:
        The figure.
    """
    figure = Figure(figsize=(WIDTH, 4.6))
    axes = figure.subplots()
    chosen = highlighted(rows, curve)
    for metric, line in curve.groupby("metric"):
        if metric not in chosen:
            axes.plot(line["cost"], line["regret"], color="#CFCFCF", linewidth=0.8, zorder=1)
    for place, metric in enumerate(chosen):
        line = curve[curve["metric"] == metric].sort_values("k")
        axes.plot(line["cost"], line["regret"], color=PALETTE[place], marker=MARKERS[place], markersize=4.5,
                  linewidth=1.6, label=shortened(metric), zorder=3)  # fmt: skip
    axes.plot(*_by_chance(curve), color=INK, linestyle="--", linewidth=1.2, label="random choice", zorder=2)
    if len(chosen) < curve["metric"].nunique():
        axes.plot([], [], color="#CFCFCF", linewidth=0.8, label="all other metrics")
    axes.axhline(0, color=RULE, linewidth=0.8)
    axes.set_xlabel("cost: metric on all candidates and training of its first k,\nas a share of training them all")
    axes.set_ylabel("regret, accuracy points")
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g} %"))
    points_axis(axes)
    figure.legend(loc="outside lower center", ncols=2, columnspacing=1.2)
    return figure


def regret_alt(rows: pd.DataFrame, curve: pd.DataFrame) -> str:
    """The figure in words: what is lost at the first choice, and its cost."""
    once = {row["metric"]: row for row in curve[curve["k"] == 1].to_dict("records")}
    values = "; ".join(
        f"{metric} {points(once[metric]['regret'])} points at {percent(once[metric]['cost'])} of the cost"
        for metric in highlighted(rows, curve)
        if metric in once
    )
    return (
        "Regret in accuracy points against cost as a share of training all candidates. When only the first choice of "
        f"each metric is trained: {values}."
    )


def _by_chance(curve: pd.DataFrame) -> tuple[list[float], list[float]]:
    """Cost and regret of training k random candidates to the end; choosing them costs nothing."""
    by_k = curve.groupby("k")["random_regret"].mean()
    most = by_k.index.max()
    return [k / most for k in by_k.index], by_k.tolist()
