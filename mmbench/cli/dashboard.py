"""Make or update the W&B workspace and report.

usage: mmbench dashboard [results=DIR] tracker=wandb [tracker.OPTION=...]

Make the W&B workspace "mmbench" of tracker.project and a report, or update them: training curves, expansions compared,
score against gain for each metric of the store, correlations. Their definition is written to DIR/tracking first. With
tracker.mode=offline, or if W&B cannot be reached, nothing is sent.
"""

from __future__ import annotations

from pathlib import Path

from rich.markup import escape

from mmbench import console
from mmbench.cli.compose import composed, needed_tracker, store_of
from mmbench.records.frame import load_records
from mmbench.tracking.worker import Worker


def command(arguments: list[str]) -> None:
    """Write the definition of the workspace and the report, and send them if W&B can be reached."""
    config = composed(arguments)
    root, tracker = store_of(config).absolute(), needed_tracker(config)
    from mmbench.tracking import dashboard  # loads the W&B client, which takes a second

    worker = Worker(root, tracker, console.warn, "dashboard")
    try:
        with console.err.status("making the dashboard"):
            metrics = _metrics(root)
            path = worker.do(dashboard.write_definition, metrics)
            addresses = worker.do(dashboard.save, metrics)
    finally:
        worker.stop()
    if path is not None:
        console.say(f"Definition: {escape(str(path))}")
    if addresses:
        console.say("\n".join(["Workspace and report:", *(f"  {escape(address)}" for address in addresses)]))
    elif path is not None:
        console.say("Nothing was sent; run mmbench dashboard tracker=wandb when W&B can be reached.")


def _metrics(root: Path) -> list[str]:
    """The metrics that have scores in the store; all registered metrics if it has no scores yet."""
    frame = load_records(root)
    measured = sorted(frame.loc[frame["score"].notna(), "metric"].dropna().unique())
    if measured:
        return measured
    from mmbench.metrics.base import METRICS

    return METRICS.names()
