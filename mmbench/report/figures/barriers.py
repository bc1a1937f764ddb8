"""The barriers of one base model and its expansions, with the threshold that the base model sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator
from numpy.typing import NDArray

from mmbench.report.figures.candidates import candidates, columns, largest_cell
from mmbench.report.figures.style import INK, RULE, WIDTH
from mmbench.statistics.manifold_grid import CHOICE, Barriers
from mmbench.statistics.seed_luck import TRAINED_BASE
from mmbench.text import power

BINS = 36


def one_base(runs: pd.DataFrame, barriers: Mapping[str, Barriers]) -> pd.DataFrame:
    """The runs of the trained base model that is drawn: that with the most expansions, the first seed of these.

    Args:
        runs: as of `configurations.at_start`.
        barriers: by the id of the run.

    Returns:
        One run per expansion; empty without barriers.
    """
    known = runs[runs["done"] & runs["run_id"].isin(barriers.keys())]
    cell = largest_cell(known)
    if cell is None:
        return known.iloc[:0]
    known = known[(known["dataset"] == cell[0]) & (known["model"] == cell[1]) & (known["training"] == cell[2])]
    known = known[known["measured"] == known["measured"].min()]
    counts = known.groupby(TRAINED_BASE, dropna=False)["number"].transform("nunique")
    first = known[counts == counts.max()].sort_values(TRAINED_BASE, kind="stable")
    same = (first[TRAINED_BASE].fillna("") == first[TRAINED_BASE].fillna("").iloc[0]).all(axis=1)
    return first[same].drop_duplicates("number")


def histogram(runs: pd.DataFrame, barriers: Mapping[str, Barriers]) -> Figure:
    """Two panels over one axis of barriers: histograms, and the share of nodes below, on which the metric is read.

    Args:
        runs: as of `one_base`, not empty.
        barriers: by the id of the run.

    Returns:
        The figure.
    """
    looks = candidates(runs)
    shown = {int(row["number"]): barriers[str(row["run_id"])] for row in runs.to_dict("records")}
    lines: list[tuple[NDArray[np.float64], dict[str, Any]]] = []
    n = min(pair.nodes for pair in shown.values())
    first = next(iter(shown.values()))
    lines.append((first.flat(n)[1], {"label": "base model", "color": "#000000", "linestyle": "-", "linewidth": 2.2}))
    lines += [(shown[number].flat(n)[0], {**look, "linewidth": 1.4}) for number, look in looks.items()]
    limit, everything = first.threshold(CHOICE[0], n), np.concatenate([values for values, _ in lines])
    zero, edges = _edges(everything)
    figure = Figure(figsize=(WIDTH, 4.9 + 0.17 * -(-(len(lines) + 1) // 2)))
    upper, lower = figure.subplots(2, 1, sharex=True)
    for values, look in lines:
        raised = _raised(values, zero, edges)
        shares = np.histogram(raised, edges)[0] / len(values)
        filled = look["label"] == "base model"
        if filled:
            upper.stairs(100 * shares, edges, fill=True, color="#DDDDDD", zorder=1)
        upper.stairs(100 * shares, edges, zorder=3 if filled else 2, **look)
        ordered = np.sort(raised)
        lower.step([edges[0], *ordered, edges[-1]], [0, *(np.arange(1, n + 1) / n * 100), 100], where="post",
                   zorder=3 if filled else 2, **{**look, "label": "_"})  # fmt: skip
    for axes in (upper, lower):
        axes.axvline(limit if limit > 0 else zero, color=INK, linewidth=1.1, linestyle="--", zorder=4,
                     label=f"threshold, q = {CHOICE[0]:g}" if axes is upper else None)  # fmt: skip
    lower.axhline(100 * CHOICE[0], color=RULE, linewidth=0.8, linestyle=":")
    upper.set_ylabel("nodes, percent")
    lower.set_ylabel("nodes at or below, percent")
    _barrier_axis(lower, edges, bool((everything <= 0).any()))
    handles, labels = upper.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns(labels), columnspacing=1.2)
    return figure


def _edges(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """Where zeros are drawn, and the edges of the bins: logarithmic where the barriers span more than a decade."""
    positive = values[values > 0]
    if not positive.size:
        return 0.5, np.array([0.0, 1.0])
    low, high = float(np.quantile(positive, 0.002)), float(positive.max())
    if (values <= 0).any() or high > 10 * low:
        edges = np.geomspace(low, high * 1.0001, BINS + 1)
        ratio = edges[1] / edges[0]
        # A gap parts the zeros, and the few barriers below the axis, from the rest.
        return float(edges[0] / ratio**2.5), np.array([edges[0] / ratio**3, edges[0] / ratio**2, *edges])
    return 0.0, np.linspace(0.0, high * 1.0001, BINS + 1)


def _raised(values: NDArray[np.float64], zero: float, edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """The values, with zeros and what lies below a logarithmic axis in the bin at the left end."""
    floor = edges[2] if zero > 0 and len(edges) > 2 else edges[0]
    return np.where(values < floor, zero, values) if len(edges) > 2 else np.full_like(values, zero)


def _barrier_axis(axes: Axes, edges: NDArray[np.float64], zeros: bool) -> None:
    axes.set_xlabel("barrier |b|, nats")
    axes.set_xlim(edges[0], edges[-1])
    if edges[0] <= 0:
        return
    axes.set_xscale("log")
    decades = [10.0**k for k in range(-20, 10) if edges[2] <= 10.0**k <= edges[-1]]
    ticks, labels = decades, [power(tick) for tick in decades]
    if len(decades) < 2:
        ticks = [float(f"{tick:.1g}") for tick in np.geomspace(edges[2], edges[-1], 4)[1:-1]]
        labels = [f"{tick:g}" for tick in ticks]
    left = [float(np.sqrt(edges[0] * edges[1]))]
    axes.set_xticks([*left, *ticks], ["0" if zeros else "less", *labels])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def histogram_alt(runs: pd.DataFrame, barriers: Mapping[str, Barriers]) -> str:
    """The figure in words: the median barrier of the base model and of each expansion."""
    looks = candidates(runs)
    texts: list[str] = []
    for row in runs.to_dict("records"):
        if int(row["number"]) in looks:
            pair = barriers[str(row["run_id"])]
            if not texts:
                texts.append(f"base model {np.median(pair.base):.2g}")
            texts.append(f"{looks[int(row['number'])]['label']} {np.median(pair.candidate):.2g}")
    return f"Histogram of the barriers of one base model and its expansions; median in nats: {'; '.join(texts)}."
