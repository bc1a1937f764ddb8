"""What is done, failed (with the reason), running, missing.

usage: mmbench status [results=DIR] [all=true]

Of all runs that were ever asked for in a store: how many are done, and why each of the others is not: failed or skipped
with the reason, running or interrupted with the stage, missing. With all=true every run is named.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.markup import escape

from mmbench import console
from mmbench.cli.compose import composed, own_keys, store_of, yes_or_no
from mmbench.store.stages import doing
from mmbench.store.store import Store, look

STATES = ("done", "failed", "skipped", "running", "interrupted", "missing")
SHOWN = 3
"""Runs that are named per reason, unless all are asked for."""


def command(arguments: list[str]) -> None:
    """Print the status of a store."""
    own, rest = own_keys(arguments, "all")
    print_status(store_of(composed(rest)), everything=yes_or_no(own, "all"))


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

    def reasons(self, state: str) -> dict[str, list[str]]:
        """The reasons of a state, each with its runs' labels, sorted."""
        by_reason: defaultdict[str, list[str]] = defaultdict(list)
        for run_id, (its_state, reason) in self.states.items():
            if its_state == state:
                by_reason[reason].append(self.labels[run_id])
        return {reason: sorted(labels) for reason, labels in sorted(by_reason.items())}


def census(store: Store) -> Census:
    """Look at all records, sweeps and marks."""
    found = Census({run_id: label for sweep in store.sweeps() for run_id, label in sweep["runs"].items()})
    for run_id, stage in store.running().items():  # before the records: a run that failed may be tried again now
        found.states[run_id] = "running", doing(stage)
        found.labels.setdefault(run_id, run_id)
    for path in sorted((store.root / "records").glob("*.json")):
        seen = look(path)
        if seen.record is not None:
            found.states.setdefault(path.stem, _of_record(seen.record))
            found.labels.setdefault(path.stem, path.stem)
        elif seen.state != "ok":
            store.tell(f"{path} {seen.reason}: it counts as missing")
    for mark in store.interrupted():
        if mark.run_id in found.labels:
            found.states.setdefault(mark.run_id, ("interrupted", f"while {doing(mark.stage)}, on {mark.host}"))
    for run_id in found.labels:
        found.states.setdefault(run_id, ("missing", "not started, or stopped between two stages"))
    return found


def _of_record(record: dict[str, Any]) -> tuple[str, str]:
    return record["status"], str(record["error"] or "")


def print_status(results: Path, everything: bool = False) -> None:
    """Count the runs by what became of them, and explain those that are not done.

    Args:
        results: the store's folder.
        everything: whether to name all runs of every reason, not only the first.
    """
    found = census(Store(results, tell=console.warn))
    console.say(f"[bold]{len(found.labels)} runs[/] in {escape(str(results))}")
    for state in STATES:
        if state != "interrupted" or found.count(state):
            console.say(f"  {state:11} {found.count(state)}")
    for state in STATES[1:]:
        for reason, labels in found.reasons(state).items():
            console.say(f"[bold]{state}[/] {len(labels)}: {escape(reason)}")
            shown = labels if everything else labels[:SHOWN]
            for label in shown:
                console.say(f"    {escape(label)}")
            if len(labels) > len(shown):
                console.say(f"    and {len(labels) - len(shown)} more (mmbench status all=true names them)")
    if found.count("failed"):
        console.say("`mmbench retry` runs again what failed and may succeed.")
    if (found.count("missing") or found.count("interrupted")) and not found.count("running"):
        console.say("The same `mmbench run` command computes what is missing.")
