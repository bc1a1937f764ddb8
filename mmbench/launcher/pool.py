"""Runs in worker processes of this machine. Knows nothing of Hydra and shows nothing.

Runs that share an expanded model form one task, so that its training happens once and in one place; the largest models
start first. A worker that dies takes down only the run that it was at: that run is recorded as failed, the rest of its
task goes to another worker.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import sys
from collections import Counter, defaultdict
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass, field
from multiprocessing import forkserver
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from pebble import ProcessExpired, ProcessPool

from mmbench.config import prepare
from mmbench.errors import UndefinedError
from mmbench.run import Run, execute, is_final
from mmbench.store import Store, key_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from mmbench.config import Settings

Task = list[Run]


@dataclass
class Outcome:
    """What became of the runs."""

    stored: int = 0
    """Runs whose records were there already."""
    statuses: Counter[str] = field(default_factory=Counter)
    """Runs per status, the stored ones included."""
    problems: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(status, reason) of the runs that were not done."""
    computed: Counter[str] = field(default_factory=Counter)
    """Stage results that were computed, by kind."""

    def add(self, record: dict[str, Any]) -> None:
        """Count one run."""
        self.statuses[record["status"]] += 1
        if record["status"] != "done":
            self.problems[record["status"], record["error"]] += 1


def run_all(runs: list[Run], store: Store, settings: Settings, slots: int, tick: Callable[[], None]) -> Outcome:
    """Execute the runs that have no final record yet; `tick` is called a few times a second meanwhile."""
    outcome = Outcome()
    missing = still_to_run(runs, store, outcome)
    if missing:
        _run_tasks(grouped(missing), store, settings, slots, tick, outcome)
    return outcome


def still_to_run(runs: list[Run], store: Store, outcome: Outcome) -> list[Run]:
    """The runs that have no final record yet; the others are counted, and those without meaning recorded as such."""
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
    """Whether the combination has no meaning."""
    try:
        run.target()
    except UndefinedError:
        return True
    return False


def grouped(runs: list[Run]) -> list[Task]:
    """Defined runs grouped by expanded model, the largest first."""
    groups: defaultdict[str, Task] = defaultdict(list)
    for run in runs:
        groups[key_of("expanded", run.expanded_inputs)].append(run)
    # Equal sizes differ in their seed, hence in their base model, so neighbours do not wait for the same one.
    return sorted(groups.values(), key=lambda task: -task[0].target().architecture.parameters(task[0].dataset.shape()))


def _run_tasks(
    tasks: list[Task], store: Store, settings: Settings, slots: int, tick: Callable[[], None], outcome: Outcome
) -> None:
    context = _context([task[0] for task in tasks])
    pool = ProcessPool(max_workers=min(slots, len(tasks)), context=context, initializer=_ignore_interrupts)
    try:
        pending: dict[Future[Any], Task] = {
            pool.schedule(_work, args=(task, store.root, settings)): task for task in tasks
        }
        while pending:
            finished, _ = wait(pending, timeout=0.25, return_when=FIRST_COMPLETED)
            for future in finished:
                task = pending.pop(future)
                try:
                    records, computed = future.result()
                except ProcessExpired as error:
                    rest = _bury(task, store, error, outcome)
                    if rest:
                        pending[pool.schedule(_work, args=(rest, store.root, settings))] = rest
                else:
                    outcome.computed += computed
                    for record in records:
                        outcome.add(record)
            tick()
        pool.close()
    except BaseException:
        _end_server()  # it may still be loading, to serve workers that nobody waits for any more
        pool.stop()
        raise
    finally:
        pool.join()


def _bury(task: Task, store: Store, error: ProcessExpired, outcome: Outcome) -> Task:
    """Record as failed the run at which a worker died; count those before it; return those after it."""
    marked = [run for run in task if store.clear_mark(run.run_id)]
    dead = marked[0] if marked else task[0]
    position = task.index(dead)
    reason = f"the worker process died (exit code {error.exitcode}), perhaps for want of memory"
    store.write_record({**dead.identity(), "status": "failed", "error": reason, "error_type": "ProcessExpired"})
    for run in task[: position + 1]:
        outcome.add(store.read_record(run.run_id) or {"status": "failed", "error": reason})
    return task[position + 1 :]


def _context(runs: list[Run]) -> Any:
    """Workers are forked from a clean server that has loaded torch and the like once, where the system can do that."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    needed = {module for run in runs for part in (run.model, run.dataset) for module in part.imports}
    needed |= {f"mmbench.landscape.{name}" for name in ("gauss_newton", "lanczos", "traces")}
    context.set_forkserver_preload(["mmbench.launcher.pool", *sorted(needed)])
    # The server loads for seconds before it minds signals: born deaf to Ctrl-C, it does not print where it was hit.
    heard = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, heard)
    return context


def _end_server() -> None:
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if "multiprocessing.forkserver" in " ".join(child.cmdline()):
                child.kill()


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which stops the workers


def _work(task: Task, root: Path, settings: Settings) -> tuple[list[dict[str, Any]], Counter[str]]:
    store, device = Store(root), prepare(settings)
    return [execute(run, store, device) for run in task], store.computed
