"""What `track`, `dashboard` and `analyze tracker=wandb` do and say."""

from __future__ import annotations

from pathlib import Path

from rich.markup import escape

from mmbench import console
from mmbench.metrics.base import METRICS
from mmbench.records.frame import load_records
from mmbench.report.analyze import Analysis
from mmbench.tracking import dashboard as boards
from mmbench.tracking import follow
from mmbench.tracking.analysis import content_of, log_analysis, tables_of
from mmbench.tracking.ledger import Ledger
from mmbench.tracking.options import Wandb
from mmbench.tracking.worker import Worker

LONGER = 5
"""How much more time an analysis, with all its tables and files, has than a model."""


def track(root: Path, tracker: Wandb) -> None:
    """Log the models of a store that are not logged yet."""
    root = root.absolute()
    if not (root / "records").is_dir():
        console.say(f"Nothing to log: {escape(str(root))} holds no records; mmbench run fills it.")
        return
    follow.say_logged(follow.track(root, tracker), root, tracker)


def show_analysis(analysis: Analysis, root: Path, tracker: Wandb) -> None:
    """Log an analysis."""
    root = root.absolute()
    patient = tracker.model_copy(update={"time_limit": LONGER * tracker.time_limit})
    worker = Worker(root, patient, console.warn, "analyze")
    try:
        with console.err.status("logging to W&B"):
            logged = worker.do(log_analysis, content_of(analysis, tracker.tags), tables_of(analysis))
    except Exception as error:
        console.warn(
            f"the analysis is not logged to W&B ({type(error).__name__}: {error}); it lies in {analysis.folder}"
        )
        return
    finally:
        worker.stop()
    if logged is None:
        return
    words = {"stored": "logged before, nothing has changed", "online": logged.url or "online"}
    offline = f"offline; wandb sync {Ledger(root, tracker).files} uploads it"
    console.say(f"W&B: {escape(words.get(logged.where, offline))}")


def dashboard(root: Path, tracker: Wandb) -> None:
    """Write the definition of the workspace and the report, and send them if W&B can be reached."""
    root = root.absolute()
    worker = Worker(root, tracker, console.warn, "dashboard")
    try:
        with console.err.status("making the dashboard"):
            metrics = _metrics(root)
            path = worker.do(boards.write_definition, metrics)
            addresses = worker.do(boards.save, metrics)
    finally:
        worker.stop()
    if path is not None:
        console.say(f"Definition: {escape(str(path))}")
    if addresses:
        console.say("\n".join(["Workspace and report:", *(f"  {escape(address)}" for address in addresses)]))
    elif path is not None:
        console.say("Nothing was sent; mmbench dashboard tracker=wandb sends it when W&B can be reached.")


def _metrics(root: Path) -> list[str]:
    """The metrics that the store has scores of; all there are for one that has none yet."""
    frame = load_records(root)
    return sorted(frame.loc[frame["score"].notna(), "metric"].dropna().unique()) or METRICS.names()
