"""The W&B run of an analysis: tables, a scatter for each metric, the correlations with intervals, the report."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from mmbench.report.analyze import Analysis
from mmbench.store.files import digest
from mmbench.tracking.client import Logged, log
from mmbench.tracking.content import LONGEST, Content
from mmbench.tracking.ledger import Ledger
from mmbench.tracking.options import Wandb

MOST_ROWS = 10_000
"""Rows of a W&B table; all rows are in the artifact's records.parquet."""
POINT = ["score", "gain", "expansion", "model", "dataset", "budget", "seed"]
"""Columns of a scatter's table."""


class Table(NamedTuple):
    """A W&B table."""

    columns: list[str]
    rows: list[list[Any]]


class Tables(NamedTuple):
    """The tables and files of an analysis."""

    records: Table
    correlations: Table
    bars: Table
    """Metric, Spearman's rho with the gain and its interval; over all runs, the largest first."""
    scatters: dict[str, Table]
    """Score and gain of every run that has both, by metric."""
    files: list[Path]
    """The artifact."""
    picture: Path | None
    """The figure of the correlations with their intervals."""


def content_of(analysis: Analysis, tags: list[str]) -> Content:
    """The analysis as a W&B run; its id is a hash of the records and the correlations."""
    frame = analysis.frame
    parts = [(analysis.folder / name).read_text(encoding="utf-8") for name in ("records.csv", "correlations.csv")]
    statuses = {f"runs/{status}": int(n) for status, n in frame["status"].value_counts().items()}
    bars = _bars(analysis.correlations)
    spearman = {f"spearman/{row[0]}": row[1] for row in bars.rows if row[1] is not None}
    left_out = max(0, len(frame) - MOST_ROWS)
    where = frame.attrs.get("where")
    return Content(
        id=digest(["analysis", *parts])[:16],
        name=f"analysis of {len(frame)} runs" + (f" where {where}" if where else "")[:100],
        job_type="analysis",
        tags=["analysis", *tags],
        config={"where": where, "stores": ", ".join(frame.attrs.get("stores", []))[:LONGEST]},
        summary={"runs/all": len(frame), **statuses, **spearman} | ({"records_left_out": left_out} if left_out else {}),
    )


def tables_of(analysis: Analysis) -> Tables:
    """The tables and files of an analysis."""
    frame = analysis.frame
    both = frame[frame["score"].notna() & frame["gain"].notna()]
    scatters = {str(metric): table(rows[POINT]) for metric, rows in both.groupby("metric", sort=True)}
    picture = analysis.folder / "figures" / "overview.png"
    names = ("report.html", "records.parquet", "correlations.csv")
    return Tables(
        table(frame),
        table(analysis.correlations),
        _bars(analysis.correlations),
        scatters,
        [analysis.folder / name for name in names],
        picture if picture.exists() else None,
    )


def table(frame: pd.DataFrame) -> Table:
    """The first rows of a frame in plain values: null for what is missing, long texts cut."""
    shown = frame.head(MOST_ROWS)
    columns = [
        [None if missing else _plain(value) for value, missing in zip(shown[name], shown[name].isna(), strict=True)]
        for name in shown.columns
    ]
    return Table([str(name) for name in shown.columns], [list(row) for row in zip(*columns, strict=True)])


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= LONGEST else f"{value[:LONGEST]}..."
    return value.item() if hasattr(value, "item") else value


def _bars(correlations: pd.DataFrame) -> Table:
    rows = correlations[(correlations["target"] == "gain") & (correlations["group"] == "all")]
    rows = rows.sort_values("spearman", ascending=False, na_position="last", kind="stable")
    return table(rows[["metric", "spearman", "ci_low", "ci_high", "n_configurations"]])


def log_analysis(root: Path, tracker: Wandb, mode: str, content: Content, shown: Tables) -> Logged:
    """The worker's task: log an analysis.

    Args:
        root: the store's folder.
        tracker: where to log.
        mode: `online` or `offline`.
        content: the W&B run.
        shown: its tables and files.

    Returns:
        Where it was logged.
    """
    import wandb

    ledger = Ledger(root, tracker)
    copies = ledger.folder / "artifacts" / content.id

    def extra(run: Any) -> None:
        tables = {name: wandb.Table(*rows) for name, rows in (("records", shown.records), ("bars", shown.bars))}
        run.log({"records": tables["records"], "correlations": wandb.Table(*shown.correlations)})
        title = "Spearman's rho with the gain"
        run.log({"spearman": wandb.plot.bar(tables["bars"], "metric", "spearman", title=title)})
        for metric, points in shown.scatters.items():
            scatter = wandb.plot.scatter(wandb.Table(*points), "score", "gain", title=f"{metric} against gain")
            run.log({f"score_against_gain/{metric}": scatter})
        if shown.picture:
            run.log({"correlations_with_intervals": wandb.Image(str(shown.picture))})
        artifact = wandb.Artifact("mmbench-report", type="report", description=content.name)
        copies.mkdir(parents=True, exist_ok=True)  # the next analysis may replace the files before the upload
        for path in shown.files:
            copy = shutil.copy(path, copies / path.name)
            artifact.add_file(copy, policy="immutable", skip_cache=True)
        run.log_artifact(artifact)

    logged = log(content, tracker, mode, ledger, tracker.group, extra)
    if logged.where == "online":
        shutil.rmtree(copies, ignore_errors=True)
    return logged
