"""The dashboard as code: a W&B workspace and a report, by wandb-workspaces. Runs in the worker's process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import wandb
import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws

from mmbench.tracking.ledger import Ledger
from mmbench.tracking.options import Wandb

NAME = "mmbench"
"""The workspace's name."""
TITLE = "mmbench - what the loss landscape says about the gain"
COLUMNS = {
    "c::model": "model",
    "c::expansion": "operator",
    "c::budget": "budget",
    "base_accuracy": "base accuracy",
    "final_accuracy": "final accuracy",
    "gain": "gain",
}
"""The axes of the parallel coordinates: W&B's key and the title of each."""
TEXTS = {
    "Training curves": "Training loss of the expanded models and of their base models, by operator.",
    "Expansions compared": "Mean gain and final accuracy of each operator; below, every trained model as one line.",
    "Score against gain": "One point per trained model: the metric's score before training, the gain after it.",
    "Correlations": "From the latest `mmbench analyze tracker=wandb`: Spearman's rho of each metric with the gain, its "
    "interval, all tables. The full report is the artifact mmbench-report.",
}
"""The sections, in order, with what they show."""


def panels(metrics: list[str]) -> dict[str, list[Any]]:
    """The panels of each section.

    Args:
        metrics: names as in `score/NAME`.

    Returns:
        Panels of wandb-workspaces by the section's title.
    """
    operator = wr.Config("expansion")
    sections = {
        "Training curves": [
            wr.LinePlot(
                title="Training loss, expanded", x="step", y=["loss/expanded"], groupby=operator, max_runs_to_show=100
            ),
            wr.LinePlot(title="Training loss, base models", x="step", y=["loss/base"], max_runs_to_show=100),
        ],
        "Expansions compared": [
            wr.BarPlot(title="Gain by operator", metrics=["gain"], groupby=operator, max_runs_to_show=1000),
            wr.BarPlot(
                title="Final accuracy by operator", metrics=["final_accuracy"], groupby=operator, max_runs_to_show=1000
            ),
            wr.ParallelCoordinatesPlot(
                title="Every model",
                columns=[
                    wr.ParallelCoordinatesPlotColumn(_metric(key), display_name=title) for key, title in COLUMNS.items()
                ],
            ),
        ],
        "Score against gain": [
            wr.ScatterPlot(
                title=f"{name} against gain",
                x=wr.SummaryMetric(f"score/{name}"),
                y=wr.SummaryMetric("gain"),
                regression=True,
            )
            for name in metrics
        ],
        "Correlations": [
            wr.MediaBrowser(title="Correlations with intervals", media_keys=["correlations_with_intervals"]),
            wr.WeavePanelSummaryTable(table_name="correlations"),
            wr.WeavePanelSummaryTable(table_name="records"),
        ],
    }
    for section in sections.values():
        for i, panel in enumerate(section):
            panel.layout = wr.Layout(x=12 * (i % 2), y=8 * (i // 2), w=12, h=8)
    return sections


def _metric(key: str) -> Any:
    kind, _, name = key.rpartition("::")
    return wr.Config(name) if kind == "c" else wr.SummaryMetric(name)


def workspace(tracker: Wandb, metrics: list[str]) -> Any:
    """The workspace, as an object of wandb-workspaces."""
    return ws.Workspace(
        entity=tracker.entity or "",
        project=tracker.project,
        name=NAME,
        sections=[
            ws.Section(name=title, panels=plots, is_open=True, layout_settings=ws.SectionLayoutSettings(columns=2))
            for title, plots in panels(metrics).items()
        ],
        settings=ws.WorkspaceSettings(x_axis="step", max_runs=100),
        runset_settings=ws.RunsetSettings(
            pinned_columns=["run:displayName", "config:expansion.value", "summary:gain", "summary:final_accuracy"]
        ),
    )


def report(tracker: Wandb, metrics: list[str]) -> Any:
    """The report, as an object of wandb-workspaces: a heading, a sentence and the panels of each section."""
    runs = wr.Runset(name="all runs")  # of the report's own project; a named project would be looked up at once
    blocks: list[Any] = [wr.TableOfContents()]
    for title, plots in panels(metrics).items():
        blocks += [wr.H1(title), wr.P(TEXTS[title]), wr.PanelGrid(runsets=[runs], panels=plots)]
    return wr.Report(
        project=tracker.project,
        entity=tracker.entity or "",
        title=TITLE,
        description="Made by mmbench dashboard, which overwrites changes made by hand.",
        blocks=blocks,
        width="fluid",
    )


def definition(tracker: Wandb, metrics: list[str]) -> dict[str, Any]:
    """What would be sent: both specifications, as JSON data."""
    models = {"workspace": workspace(tracker, metrics)._to_model(), "report": report(tracker, metrics)._to_model()}
    return {name: json.loads(model.model_dump_json(by_alias=True, exclude_none=True)) for name, model in models.items()}


def write_definition(root: Path, tracker: Wandb, mode: str, metrics: list[str]) -> Path:
    """The worker's task: write what would be sent to `dashboard.json`.

    Args:
        root: the store's folder.
        tracker: names the project.
        mode: not used; every task takes it.
        metrics: names as in `score/NAME`.

    Returns:
        The path of the file.
    """
    path = Ledger(root, tracker).folder / "dashboard.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(definition(tracker, metrics), indent=1) + "\n", encoding="utf-8")
    return path


def save(root: Path, tracker: Wandb, mode: str, metrics: list[str]) -> list[str] | None:
    """The worker's task: make the workspace and the report, or update those made before.

    Args:
        root: the store's folder.
        tracker: names the project.
        mode: `online` or `offline`.
        metrics: names as in `score/NAME`.

    Returns:
        Their addresses; None offline.
    """
    if mode != "online":
        return None
    ledger = Ledger(root, tracker)
    known = ledger.read("sent") or {}
    entity = tracker.entity or wandb.Api(timeout=int(max(1, tracker.time_limit / 4))).default_entity
    target = tracker.model_copy(update={"entity": entity})
    board, text = workspace(target, metrics), report(target, metrics)
    board._internal_name, board._internal_id = known.get("name", ""), known.get("workspace", "")
    text.id = known.get("report", "")
    board.save()
    known |= {"name": board._internal_name, "workspace": board._internal_id}
    ledger.write("sent", known)  # at once: if the report fails, the next call updates this workspace
    text.save()
    ledger.write("sent", known | {"report": text.id})
    return [board.url, text.url]
