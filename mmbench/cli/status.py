"""What is done, failed (with the reason), running, missing.

usage: mmbench status [results=DIR] [all=true] [format=json]

Count the runs of all sweeps of a store, and show why runs are not done: failed or skipped with the reason, running or
interrupted with the stage, missing. With all=true, every run is listed. A run is superseded if its data have changed
since and its sweep was started again, with other runs in its place. With format=json, all of it is printed as JSON.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.markup import escape

from mmbench import console
from mmbench.cli.compose import composed, own_keys, store_of, yes_or_no
from mmbench.cli.output import as_json
from mmbench.launcher.overrides import command as quoted
from mmbench.store.stages import doing
from mmbench.store.store import Store, look
from mmbench.store.survey import superseded

STATES = ("done", "failed", "skipped", "running", "interrupted", "missing", "superseded")
SUPERSEDED = "the data or mmbench have changed since, and the sweep was started again"
SHOWN = 3
"""Runs that are listed per reason without all=true."""


def command(arguments: list[str]) -> None:
    """Print the status of a store."""
    own, rest = own_keys(arguments, "all", "format")
    everything, json = yes_or_no(own, "all"), as_json(own)
    root = store_of(composed(rest))
    if json:
        runs = census(Store(root, tell=console.warn))
        console.say_json({"results": str(root), **runs.as_json()})
    else:
        print_status(root, everything)


@dataclass
class Census:
    """Every run of a store with its state and the reason."""

    labels: dict[str, str]
    """Run id to its label."""
    states: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Run id to state and reason."""

    def count(self, state: str) -> int:
        """Runs in a state."""
        return sum(1 for its_state, _ in self.states.values() if its_state == state)

    def as_json(self) -> dict[str, Any]:
        """How many runs are in each state, and every run with its state and the reason."""
        runs = {
            run_id: {"run": self.labels[run_id], "state": state, "reason": reason or None}
            for run_id, (state, reason) in sorted(self.states.items())
        }
        return {"count": len(self.labels), "states": {state: self.count(state) for state in STATES}, "runs": runs}

    def reasons(self, state: str) -> dict[str, list[str]]:
        """The reasons of a state, each with its runs' labels, sorted."""
        by_reason: defaultdict[str, list[str]] = defaultdict(list)
        for run_id, (its_state, reason) in self.states.items():
            if its_state == state:
                by_reason[reason].append(self.labels[run_id])
        return {reason: sorted(labels) for reason, labels in sorted(by_reason.items())}


def census(store: Store) -> Census:
    """Look at all records, sweeps and heartbeats."""
    sweeps = store.sweeps()
    outdated = superseded(sweeps)
    runs = Census({run_id: label for sweep in sweeps for run_id, label in sweep["runs"].items()})
    for run_id, stage in store.running().items():  # before the records: a run that failed may be tried again now
        runs.states[run_id] = "running", doing(stage)
        runs.labels.setdefault(run_id, run_id)
    for path in sorted((store.root / "records").glob("*.json")):
        file = look(path)
        if file.record is not None:
            runs.states.setdefault(path.stem, _of_record(file.record))
            runs.labels.setdefault(path.stem, path.stem)
        elif file.state != "ok":
            store.tell(f"{path} {file.reason}" + (": it counts as missing" if file.state != "newer" else ""))
    for beat in store.interrupted():
        if beat.run_id in runs.labels:
            runs.states.setdefault(beat.run_id, ("interrupted", f"while {doing(beat.stage)}, on {beat.host}"))
    for run_id in runs.labels:
        runs.states.setdefault(run_id, ("missing", "not started, or stopped between two stages"))
    for run_id in outdated:
        if runs.states[run_id][0] not in ("done", "running"):
            runs.states[run_id] = "superseded", SUPERSEDED
    return runs


def _of_record(record: dict[str, Any]) -> tuple[str, str]:
    return record["status"], str(record["error"] or "")


def print_status(results: Path, everything: bool = False) -> None:
    """Count the runs by state, and give the reasons of those that are not done.

    Args:
        results: the store's folder.
        everything: whether to list all runs of every reason, not only the first.
    """
    runs = census(Store(results, tell=console.warn))
    console.say(f"[bold]{len(runs.labels)} runs[/] in {escape(str(results))}")
    for state in STATES:
        if state not in ("interrupted", "superseded") or runs.count(state):
            console.say(f"  {state:11} {runs.count(state)}")
    for state in STATES[1:]:
        for reason, labels in runs.reasons(state).items():
            console.say(f"[bold]{state}[/] {len(labels)}: {escape(reason)}")
            shown = labels if everything else labels[:SHOWN]
            for label in shown:
                console.say(f"    {escape(label)}")
            if len(labels) > len(shown):
                listing = quoted("status", results=str(results), all=True)
                console.say(f"    and {len(labels) - len(shown)} more ({escape(listing)} lists them)")
    if runs.count("failed"):
        retry = quoted("retry", results=str(results))
        console.say(f"`{escape(retry)}` runs the failed runs again that may succeed.")
    if (runs.count("missing") or runs.count("interrupted")) and not runs.count("running"):
        console.say("The same `mmbench run` command computes what is missing.")
