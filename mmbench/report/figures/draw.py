"""The figures of an analysis, drawn and saved: those of the report, and a scatter of score against gain per metric."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from matplotlib import rc_context

from mmbench.records.curves import Traces
from mmbench.report.figures.barriers import histogram, histogram_alt, one_base
from mmbench.report.figures.curves import panels_of, training_curves
from mmbench.report.figures.equal_budget import equal_budget, equal_budget_alt
from mmbench.report.figures.forest import forest, forest_alt
from mmbench.report.figures.manifold_grid import heat_map, heat_map_alt
from mmbench.report.figures.moments import scores_and_gains, tau_along, tau_along_alt
from mmbench.report.figures.regret import regret, regret_alt
from mmbench.report.figures.scatter import scatter, summary
from mmbench.report.figures.strategies import strategies, strategies_alt
from mmbench.report.figures.style import STYLE, Drawing, Looks, saved
from mmbench.statistics.configurations import at_start, configurations, prepare, runs
from mmbench.statistics.judge import Judgement, ranked
from mmbench.statistics.strategies import ranking
from mmbench.text import file_stem

NAMES = (
    "strategies",
    "overview",
    "equal_budget",
    "regret",
    "training",
    "barriers",
    "manifold_grid",
    "tau_along",
    "gains",
)
"""Stems of the figures that are not scatters."""


def draw(frame: pd.DataFrame, judgement: Judgement, folder: Path, traces: Traces | None = None) -> list[Drawing]:
    """Draw the figures as PNG and SVG; figures of an earlier analysis are removed.

    Args:
        frame: one row per run, as of `load_records`.
        judgement: the tables, as of `judge`.
        folder: where the figures go; it is made if it does not exist.
        traces: training curves, as of `read_traces`.

    Returns:
        The figures. A metric without a run that counts has no scatter, and a figure without data is not drawn.

    Raises:
        OSError: The folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with rc_context(STYLE):
        looks = Looks.of_runs(frame)
        traces = traces or Traces()
        drawings = [
            *_of_metrics(frame, judgement, folder, looks),
            *_of_barriers(frame, traces, folder),
            *_along_training(frame, judgement, traces, folder),
            *_of_traces(traces, folder, looks),
        ]
    written = {path for drawing in drawings for path in (drawing.png, drawing.svg)}
    for stem in ("scatter_*", *NAMES):
        for path in {*folder.glob(f"{stem}.png"), *folder.glob(f"{stem}.svg")} - written:
            path.unlink()
    return drawings


def _of_metrics(frame: pd.DataFrame, judgement: Judgement, folder: Path, looks: Looks) -> Iterator[Drawing]:
    averages = configurations(frame, "gain")
    if averages.empty:
        return
    rows = ranked(judgement.correlations)
    yield saved(forest(rows), folder, "overview", "All metrics", forest_alt(rows))
    if rows["equal_budget_spearman"].notna().any():
        groups = judgement.cells
        groups = groups[(groups["kind"] == "equal_budget") & (groups["target"] == "gain")]
        yield saved(equal_budget(rows, groups), folder, "equal_budget", "At equal budget", equal_budget_alt(rows))
    curve = judgement.regret_curve
    curve = curve[(curve["target"] == "gain") & curve["regret"].notna() & curve["cost"].notna()]
    if len(curve):
        yield saved(regret(rows, curve), folder, "regret", "Regret against cost", regret_alt(rows, curve))
    yield from _of_strategies(judgement.strategies, folder)
    points = runs(frame, "gain")
    for row in rows.to_dict("records"):
        metric = str(row["metric"])
        chosen = averages[averages["metric"] == metric]
        if len(chosen):
            figure = scatter(chosen, points[points["metric"] == metric], row, looks)
            alt = f"Score against gain for {metric}, one point per configuration: {summary(row)}."
            yield saved(figure, folder, f"scatter_{file_stem(metric)}", metric, alt)


def draw_strategies(table: pd.DataFrame, folder: Path, target: str) -> list[Drawing]:
    """Draw the strategies alone, as of `compare`.

    Args:
        table: the strategies.
        folder: where the figure goes; it is made if it does not exist.
        target: what was compared.

    Returns:
        The figure; none of fewer than two strategies.

    Raises:
        OSError: The folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with rc_context(STYLE):
        return list(_of_strategies(table, folder, target))


def _of_strategies(table: pd.DataFrame, folder: Path, target: str = "gain") -> Iterator[Drawing]:
    rows = ranking(table)
    if len(rows) > 1:
        yield saved(strategies(rows, target), folder, "strategies", "Expansion strategies", strategies_alt(rows))


def _of_barriers(frame: pd.DataFrame, traces: Traces, folder: Path) -> Iterator[Drawing]:
    if traces.barriers:
        chosen = one_base(at_start(prepare(frame)), traces.barriers)
        if len(chosen):
            alt = histogram_alt(chosen, traces.barriers)
            yield saved(histogram(chosen, traces.barriers), folder, "barriers", "Barriers", alt)
    if traces.grid.table["kendall_within"].notna().any():
        alt = heat_map_alt(traces.grid)
        yield saved(heat_map(traces.grid), folder, "manifold_grid", "Quantile and nodes", alt)


def _along_training(frame: pd.DataFrame, judgement: Judgement, traces: Traces, folder: Path) -> Iterator[Drawing]:
    if len(judgement.moments):
        figure = tau_along(judgement.moments)
        if figure is not None:
            yield saved(figure, folder, "tau_along", "Along the training", tau_along_alt(judgement.moments))
    if traces.gains or len(judgement.moments):
        figure = scores_and_gains(prepare(frame), traces.gains)
        if figure is not None:
            alt = "The manifold metric and the gain in validation accuracy against the epoch, a line per expansion."
            yield saved(figure, folder, "gains", "Score and gain", alt)


def _of_traces(traces: Traces, folder: Path, looks: Looks) -> Iterator[Drawing]:
    if traces.curves:
        alt = (
            "Mean training loss against steps for "
            f"{'; '.join(', '.join(panel) for panel in panels_of(traces.curves))}: the base model and "
            f"{', '.join(looks.operators) or 'no expansion'}."
        )
        yield saved(training_curves(traces.curves, looks), folder, "training", "Training curves", alt)
