"""Along the training: how well each metric ranks the gains, and how the manifold metric and the gains run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmbench.records.gains import GainCurve
from mmbench.report.figures.candidates import candidates, columns, largest_cell, training_axis
from mmbench.report.figures.regret import MARKERS
from mmbench.report.figures.style import PALETTE, RULE, WIDTH, points_axis
from mmbench.statistics.configurations import scored
from mmbench.statistics.moments import ALONG, shown_tau
from mmbench.statistics.target import TARGETS
from mmbench.text import MINUS, metric_name, shortened, signed

NAMED = 7
"""Metrics that get a colour."""
SUBJECT = "manifold"


def target_along(moments: pd.DataFrame) -> str:
    """The target that is drawn: the paper's, if the records hold it."""
    return next((target for target in ALONG if (moments["target"] == target).any()), ALONG[0])


def tau_along(moments: pd.DataFrame) -> Figure | None:
    """Kendall's tau of score and gain against the moment of the score, a line per metric.

    Args:
        moments: as of `moments_table`, not empty.

    Returns:
        The figure; None if no tau is known, as with fewer than three expansions.
    """
    target, (tau, low, high) = target_along(moments), shown_tau(moments)
    rows = moments[(moments["target"] == target) & moments[tau].notna()]
    if rows.empty:
        return None
    along, unit = _time(rows)
    names = _highlighted(rows, tau)
    figure = Figure(figsize=(WIDTH, 3.4 + 0.17 * -(-len(names) // 2)))
    axes = figure.subplots()
    axes.axhline(0, color=RULE, linewidth=1, zorder=1)
    for metric in [*names, *(name for name in rows["metric"].unique() if name not in names)]:
        place = names.index(metric) if metric in names else None
        _line(axes, rows[rows["metric"] == metric], along, (tau, low, high), place)
    if len(names) < rows["metric"].nunique():
        axes.plot([], [], color="#CFCFCF", linewidth=0.9, label="all other metrics")
    axes.set_ylabel("Kendall's τ with the " + ("best gain" if target == ALONG[0] else "gain"))
    axes.set_ylim(-1.04, 1.04)
    axes.set_yticks([-1, -0.5, 0, 0.5, 1], [f"{MINUS}1", f"{MINUS}0.5", "0", "0.5", "1"])
    training_axis(axes, float(rows[along].max()), unit)
    figure.legend(loc="outside lower center", ncols=2, columnspacing=1.2)
    return figure


def tau_along_alt(moments: pd.DataFrame) -> str:
    """The figure in words: tau at the first and at the last moment."""
    target, (tau, _, _) = target_along(moments), shown_tau(moments)
    rows = moments[(moments["target"] == target) & moments[tau].notna()]
    along, unit = _time(rows)
    texts = []
    for metric in _highlighted(rows, tau):
        line = rows[rows["metric"] == metric].sort_values(along)
        ends = [line.iloc[0], *([line.iloc[-1]] if len(line) > 1 else [])]
        texts.append(f"{metric} {' and '.join(f'{signed(end[tau])} at {end[along]:g}' for end in ends)}")
    return f"Kendall's tau of score and {TARGETS[target]} against the {unit} of the score: {'; '.join(texts)}."


def _time(rows: pd.DataFrame) -> tuple[str, str]:
    """The column of the moments, and its unit: epochs where all are known."""
    return ("after_epochs", "epochs") if rows["after_epochs"].notna().all() else ("after", "steps")


def _highlighted(rows: pd.DataFrame, tau: str) -> list[str]:
    """The metrics that get a colour: manifold first, then those that reach the largest tau."""
    best = rows.groupby("metric")[tau].apply(lambda values: values.abs().max())
    subjects = [str(name) for name in best.index if metric_name(str(name)) == SUBJECT]
    others = [str(name) for name in best.sort_values(ascending=False, kind="stable").index if name not in subjects]
    return [*subjects, *others][:NAMED]


def _line(axes: Axes, line: pd.DataFrame, along: str, columns: tuple[str, str, str], place: int | None) -> None:
    tau, low, high = columns
    line = line.sort_values(along)
    if place is None:
        axes.plot(line[along], line[tau], color="#CFCFCF", linewidth=0.9, zorder=1.5)
        return
    ink, metric = PALETTE[place % len(PALETTE)], str(line["metric"].iloc[0])
    subject = place == 0
    if len(line) == 1:  # measured once: what it reaches, for comparison
        axes.axhline(line[tau].iloc[0], color=ink, linewidth=1, linestyle=":", zorder=1.8)
    if place == 0:  # the bands of several lines would hide each other
        axes.fill_between(line[along], line[low], line[high], color=ink, alpha=0.14, linewidth=0, zorder=1.6)
    axes.plot(line[along], line[tau], color=ink, linestyle=":" if len(line) == 1 else "-",
              marker=MARKERS[place % len(MARKERS)], markersize=5 if subject else 4, linewidth=2.2 if subject else 1.4,
              label=shortened(metric), zorder=4 if subject else 3)  # fmt: skip


# -- the manifold metric and the gains themselves ----------------------------------------------------------------------


def scores_and_gains(runs: pd.DataFrame, gains: Sequence[GainCurve]) -> Figure | None:
    """M_t and G_t against the epoch, a line per expansion, with bands over seeds.

    Only the data set, model and training with the most trainings is drawn.

    Args:
        runs: all runs, as of `configurations.prepare`.
        gains: as of `read_gains`.

    Returns:
        The figure; None if neither was measured along the training.
    """
    chosen = cell_along(runs)
    if chosen is None:
        return None
    scores, curves = scores_along(chosen), gains_along(chosen, gains)
    panels = [panel for panel in (scores, curves) if len(panel)]
    if not panels:
        return None
    looks = candidates(chosen)
    figure = Figure(figsize=(WIDTH, 0.5 + 2.5 * len(panels) + 0.17 * -(-len(looks) // 2)))
    last = max(float(panel["time"].max()) for panel in panels)
    for place, panel in enumerate(panels):
        axes = figure.add_subplot(len(panels), 1, place + 1)
        axes.axhline(0, color=RULE, linewidth=0.8, zorder=1)
        _bands(axes, panel, looks)
        training_axis(axes, last, "epochs")
        if panel is scores:
            axes.set_title("manifold metric", loc="left")
            axes.set_ylabel("M, percent")
        else:
            axes.set_title("gain in validation accuracy", loc="left")
            axes.set_ylabel("G, accuracy points")
            points_axis(axes)
        if place + 1 < len(panels):
            axes.set_xlabel("")
    handles, labels = figure.axes[-1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns(labels), columnspacing=1.2)
    return figure


def cell_along(runs: pd.DataFrame) -> pd.DataFrame | None:
    """The done runs of the data set, model and training that is drawn; None without any."""
    done = runs[runs["done"]]
    cell = largest_cell(done)
    if cell is None:
        return None
    return done[(done["dataset"] == cell[0]) & (done["model"] == cell[1]) & (done["training"] == cell[2])]


def scores_along(runs: pd.DataFrame) -> pd.DataFrame:
    """number, seed, time (epochs) and value of the manifold metric; empty unless it has several moments."""
    rows = scored(runs, "score")
    rows = rows[rows["measured"].map(metric_name) == SUBJECT]
    first = sorted(set(rows["measured"]))[:1]  # of several sets of options, the first
    rows = rows[rows["measured"].isin(first)]
    times = rows["after_epochs"].where(rows["after"] > 0, 0.0)
    table = rows.assign(time=times, value=rows["score"])[["number", "seed", "time", "value"]].dropna(subset=["time"])
    return table if table["time"].nunique() > 1 else table.iloc[:0]


def gains_along(runs: pd.DataFrame, gains: Sequence[GainCurve]) -> pd.DataFrame:
    """number, seed, time (epochs) and value of the gains along the training of these runs."""
    known = runs.drop_duplicates("run_id").set_index("run_id")[["number", "seed"]]
    rows: list[dict[str, Any]] = [
        {
            "number": known.at[curve.run_id, "number"],
            "seed": known.at[curve.run_id, "seed"],
            "time": time,
            "value": gain,
        }
        for curve in gains
        if curve.run_id in known.index
        for time, gain in zip(curve.epochs, curve.gains, strict=True)
    ]
    return pd.DataFrame(rows, columns=["number", "seed", "time", "value"])


def _bands(axes: Axes, panel: pd.DataFrame, looks: dict[int, dict[str, Any]]) -> None:
    """Each expansion's mean over seeds, and one standard error to both sides."""
    for number, look in looks.items():
        rows = panel[panel["number"] == number]
        if rows.empty:
            continue
        table = rows.pivot_table(index="time", columns="seed", values="value", aggfunc="mean", dropna=False)
        table = table.dropna()  # where training stopped early, the others' mean would be of other seeds
        mean = table.mean(axis=1)
        error = table.std(axis=1).to_numpy() / np.sqrt(table.shape[1])
        if table.shape[1] > 1:
            axes.fill_between(mean.index, mean - error, mean + error, color=look["color"], alpha=0.18, linewidth=0)
        few = len(mean) <= 15
        axes.plot(mean.index, mean, linewidth=1.5, marker="o" if few else None, markersize=3.5, **look)
