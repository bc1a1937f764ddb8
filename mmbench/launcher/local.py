"""A sweep on this machine, with a live display and a summary."""

from __future__ import annotations

import contextlib
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from rich.markup import escape

from mmbench import console
from mmbench.config import Settings
from mmbench.errors import MmbenchError
from mmbench.launcher.display import COLOURS, Display
from mmbench.launcher.log import Log, counted
from mmbench.launcher.outcome import Outcome
from mmbench.launcher.overrides import command
from mmbench.launcher.pool import Options, Pool, Watcher
from mmbench.registry import checked
from mmbench.run import Run, note_moments
from mmbench.store.stages import computed
from mmbench.store.store import Store
from mmbench.sweep import as_json
from mmbench.tracking.follow import following

SHOWN = 10
"""Reasons that the summary lists."""


def run_sweep(runs: list[Run], settings: Settings, options: Options, watchers: Sequence[Watcher] = ()) -> None:
    """Compute the missing runs, show the progress, and print a summary.

    After the first Ctrl-C no more runs are started; the second stops those that are running.

    Args:
        runs: the sweep, without repeats.
        settings: results folder, device, threads.
        options: of the launcher.
        watchers: are told which runs begin and end.

    Raises:
        SystemExit: with status 1 if a run failed, 130 after Ctrl-C, 143 after SIGTERM.
        MmbenchError: every run would fail: the store cannot be written to, or no worker can start.
    """
    store = Store(Path(settings.results), tell=console.warn)
    store.prepare()
    note_moments(store, runs)
    sweep = store.write_sweep(as_json(runs))
    log = Log(store.root / "logs" / f"{sweep}.log")
    pool = Pool(runs, store, settings, options, (log, *watchers))
    log.write(f"started: {len(runs)} runs, {pool.outcome.ended} of them stored; {shlex.join(sys.orig_argv)}")
    store.tell = log.and_tell(console.warn)
    signals = Signals(pool)
    with following(store, runs, settings.tracker, sweep) as tracking:
        try:
            with Display(pool, len(runs)) as display:
                with contextlib.suppress(_Stop), signals:
                    pool.run(display.tick)
                display.tick()
        except MmbenchError as error:
            log.write(f"ended: {error}")
            raise
        if signals.received and tracking:
            tracking.abandon()
    how = f"stopped by {signal.Signals(signals.received).name}" if signals.received else pool.stopping or "ended"
    log.write(f"{how}: {pool.outcome.ended} of {len(runs)} runs ({counted(pool.outcome.statuses)})")
    if signals.received:
        console.warn(
            f"stopped: {pool.outcome.ended} of {len(runs)} runs have their record, and every finished stage is stored "
            f"in {settings.results}; the same command goes on from there"
        )
        raise SystemExit(128 + signals.received)
    summarise(pool.outcome, settings)
    if left := len(runs) - pool.outcome.ended:
        console.warn(f"{left} runs were not started: {pool.stopping}; the same command goes on from there")
    if left or pool.outcome.statuses["failed"]:
        raise SystemExit(1)


def options_of(values: dict[str, Any]) -> Options:
    """The launcher's options, checked. Options of other launchers are ignored, with a warning."""
    for key in values.keys() - Options.model_fields:
        console.warn(f"hydra.launcher.{key} has no meaning for hydra/launcher=local")
    return checked(Options, {key: values[key] for key in Options.model_fields if key in values}, "hydra.launcher")


class _Stop(BaseException):
    """Stops the sweep now, without waiting for the runs."""


class Signals:
    """Ctrl-C once: no more runs are started. Twice, or SIGTERM: everything is stopped at once."""

    def __init__(self, pool: Pool) -> None:
        self.pool, self.received = pool, 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        first, self.received = not self.received, number
        if not first or number == signal.SIGTERM:
            raise _Stop
        self.pool.stopping = "it was interrupted"
        running = sum(1 for slot in self.pool.slots if slot.job)
        if running:
            what, them = ("run that is", "it") if running == 1 else (f"{running} runs that are", "them")
            console.warn(f"finishing the {what} being computed; Ctrl-C again stops {them}")


def summarise(outcome: Outcome, settings: Settings, elsewhere: bool = False) -> None:
    """Print how the runs ended.

    Args:
        outcome: the counts.
        settings: results folder.
        elsewhere: whether other processes computed the runs, so that the number of computed stages is unknown here.
    """
    problems = sorted(outcome.problems.items(), key=lambda item: (-item[1], item[0]))
    for (status, reason), count in problems[:SHOWN]:
        console.say(f"[{COLOURS[status]}]{status}[/] {count} runs: {escape(str(reason))}")
    if more := problems[SHOWN:]:
        runs = sum(count for _, count in more)
        listing = command("status", results=settings.results)
        console.say(f"and {runs} runs for {len(more)} other reasons; {escape(listing)} lists them")
    console.say(f"{outcome.ended} runs: {counted(outcome.statuses)}; {outcome.stored} of them were stored already.")
    if not elsewhere:
        console.say(f"Computed: {computed(outcome.computed)}.")
    console.say(f"Next: [bold]{escape(command('analyze', results=settings.results))}[/]")
