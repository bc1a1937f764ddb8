"""What has become of all runs that a store was ever asked for."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from rich.markup import escape

from mmbench import console
from mmbench.store import Store, look


def print_status(results: Path) -> None:
    """Count the runs by what became of them, with the reasons of those that failed or were skipped."""
    store = Store(results, tell=console.warn)
    wanted = {run_id: label for sweep in store.sweeps() for run_id, label in sweep["runs"].items()}
    paths = sorted((store.root / "records").glob("*.json"))
    looked = {path: look(path) for path in paths}
    records = {path.stem: found.record for path, found in looked.items() if found.record is not None}
    for path, found in looked.items():
        if found.state != "ok":
            console.warn(f"{path} {found.reason}: it counts as missing")
    wanted |= {run_id: run_id for run_id in records.keys() - wanted.keys()}
    running = {run_id: stage for run_id, stage in store.running().items() if run_id not in records}
    counts: Counter[str] = Counter(record["status"] for record in records.values())
    counts["running"] = len(running)
    counts["missing"] = len(wanted.keys() - records.keys() - running.keys())
    console.say(f"[bold]{len(wanted)} runs[/] in {escape(str(results))}")
    for status in ("done", "failed", "skipped", "running", "missing"):
        console.say(f"  {status:8} {counts[status]}")
    reasons = Counter((r["status"], r["error"]) for r in records.values() if r["status"] != "done")
    for (status, reason), count in sorted(reasons.items()):
        console.say(f"{status} {count}: {escape(str(reason))}")
    for run_id, stage in running.items():
        console.say(f"running: {escape(wanted.get(run_id, run_id))} ({stage})")
    for mark in store.interrupted():
        if mark.run_id in wanted and mark.run_id not in records:
            console.say(f"interrupted: {escape(wanted[mark.run_id])} at stage {mark.stage} on {escape(mark.host)}")
    if counts["missing"] and not running:
        console.say("The same `mmbench run` command computes what is missing.")
