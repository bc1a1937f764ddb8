"""How the runs of a sweep ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from mmbench.errors import UndefinedError
from mmbench.execute import execute
from mmbench.run import Run, is_final
from mmbench.store.store import Store


@dataclass
class Outcome:
    """Counts that grow as the runs end."""

    stored: int = 0
    """Runs whose records were stored already."""
    statuses: Counter[str] = field(default_factory=Counter)
    """Runs per status, the stored ones included."""
    problems: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(status, reason) of the runs that were not done."""
    computed: Counter[str] = field(default_factory=Counter)
    """Stage results that were computed, by kind."""

    @property
    def ended(self) -> int:
        """Runs that have ended."""
        return self.statuses.total()

    def add(self, record: dict[str, Any]) -> None:
        """Count one run."""
        self.statuses[record["status"]] += 1
        if record["status"] != "done":
            self.problems[record["status"], record["error"]] += 1


def still_to_run(runs: Iterable[Run], store: Store, outcome: Outcome) -> list[Run]:
    """The runs that have no final record yet. Undefined combinations get a `skipped` record.

    Args:
        runs: the sweep.
        store: where the records are; those that are not final are removed.
        outcome: counts the runs that are not returned.

    Returns:
        The runs to compute.
    """
    missing = []
    for run in runs:
        record = store.read_record(run.run_id)
        undefined = is_undefined(run)
        if record is not None and (is_final(record) or (undefined and record["status"] == "skipped")):
            outcome.stored += 1
            outcome.add(record)
        elif undefined:
            outcome.add(execute(run, store))
        else:
            store.forget_record(run.run_id)
            missing.append(run)
    return missing


def is_undefined(run: Run) -> bool:
    """Whether the combination is undefined."""
    try:
        run.target()
    except UndefinedError:
        return True
    return False
