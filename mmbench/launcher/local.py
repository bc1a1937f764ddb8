"""A sweep on this machine, with a live display and a summary."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from rich.markup import escape

from mmbench import console
from mmbench.errors import ConfigError
from mmbench.launcher.frozen import frozen
from mmbench.launcher.pool import Outcome, run_all
from mmbench.store import Store

if TYPE_CHECKING:
    from mmbench.config import Settings
    from mmbench.run import Run


def run_sweep(runs: list[Run], settings: Settings, slots: Any = "auto") -> None:
    """Run what is missing, show the progress, say what was done. Exits with status 1 if a run failed.

    Args:
        runs: the sweep, without repeats.
        settings: results folder, device, threads.
        slots: worker processes; `auto` is one for each CPU that this process may use.
    """
    workers = _workers(slots)
    store = Store(Path(settings.results), tell=console.warn)
    store.prepare()
    store.write_sweep(frozen(runs))
    with console.sweep_progress() as display:
        bar = display.add_task("runs", total=len(runs), now="")
        wanted = {run.run_id: run.label for run in runs}

        def tick() -> None:
            running = [f"{wanted[run]} ({stage})" for run, stage in store.running().items() if run in wanted]
            done = len(wanted.keys() & store.record_ids())
            display.update(bar, completed=done, now=escape(" | ".join(running[:workers])))

        display.update(bar, now="loading torch")
        try:
            outcome = run_all(runs, store, settings, workers, tick)
        except KeyboardInterrupt:
            display.stop()
            done = len(wanted.keys() & store.record_ids())
            console.warn(
                f"stopped: {done} of {len(runs)} runs have their record, and every finished stage is stored in "
                f"{settings.results}; the same command goes on from there"
            )
            raise SystemExit(130) from None
        tick()
    summarise(outcome, settings)
    if outcome.statuses["failed"]:
        raise SystemExit(1)


def _workers(slots: Any) -> int:
    if slots == "auto":
        process = psutil.Process()
        return len(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else psutil.cpu_count() or 1
    if isinstance(slots, int) and not isinstance(slots, bool) and slots >= 1:
        return slots
    raise ConfigError(f"hydra.launcher.slots = {slots!r} is not allowed: must be auto or an integer >= 1")


def summarise(outcome: Outcome, settings: Settings, elsewhere: bool = False) -> None:
    """Say what became of the runs; what was computed `elsewhere`, by other processes, is not known here."""
    for (status, reason), count in sorted(outcome.problems.items()):
        colour = "red" if status == "failed" else "yellow"
        console.say(f"[{colour}]{status}[/] {count} runs: {escape(str(reason))}")
    total = sum(outcome.statuses.values())
    statuses = ", ".join(f"{count} {status}" for status, count in sorted(outcome.statuses.items()))
    console.say(f"{total} runs: {statuses}; {outcome.stored} of them were stored already.")
    if not elsewhere:
        console.say(f"Computed: {console.counted(outcome.computed, console.STAGES) or 'nothing'}.")
    console.say(f"Next: [bold]mmbench analyze results={escape(settings.results)}[/]")
