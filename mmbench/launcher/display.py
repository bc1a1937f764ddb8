"""The live picture of a sweep: how far it is, what runs, what failed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mmbench import console

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mmbench.launcher.pool import Pool

COLOURS = {"done": "green", "failed": "red", "skipped": "yellow"}
LOOK = 1.0
"""Seconds between two looks at the stages in the store."""


class Display:
    """A bar with counts, and a line for each busy slot; what fails is told once, and stays."""

    def __init__(self, pool: Pool, total: int) -> None:
        self.pool, self.total = pool, total
        self._began, self._looked = time.monotonic(), 0.0
        self._stored = pool.outcome.ended
        self._stages: dict[str, str] = {}
        self._told: set[tuple[str, str]] = set(pool.outcome.problems)
        self._live = Live(console=console.err, refresh_per_second=4, transient=True, get_renderable=self._picture)

    def __enter__(self) -> Display:
        self._live.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.__exit__(None, None, None)

    def tick(self) -> None:
        """Look at the pool and its store."""
        for problem in self.pool.outcome.problems.keys() - self._told:
            self._told.add(problem)
            status, reason = problem
            console.err.print(f"[{COLOURS[status]}]{status}[/]: {escape(str(reason))}", soft_wrap=True)
        now = time.monotonic()
        if now - self._looked > LOOK and console.err.is_terminal:
            self._stages, self._looked = self.pool.store.running(), now

    def _picture(self) -> RenderableType:
        outcome, elapsed = self.pool.outcome, time.monotonic() - self._began
        statuses = outcome.statuses
        counts = [f"[{COLOURS[s]}]{statuses[s]} {s}[/]" for s in COLOURS if statuses[s]]
        line = Table.grid(padding=(0, 1))
        line.add_row(
            ProgressBar(max(1, self.total), outcome.ended, width=20),
            f"{outcome.ended}/{self.total} runs:",
            ", ".join(counts) + f" ({outcome.stored} stored before)" * bool(outcome.stored),
            Text(f"{_clock(elapsed)}{self._left(elapsed)}", style="dim"),
        )
        return Group(line, self._running())

    def _left(self, elapsed: float) -> str:
        computed = self.pool.outcome.ended - self._stored
        if self.pool.stopping:
            return "; finishing what runs"
        return f", about {_clock(elapsed / computed * (self.total - self.pool.outcome.ended))} left" if computed else ""

    def _running(self) -> Table:
        table, now = Table.grid(padding=(0, 1)), time.monotonic()
        for slot in self.pool.slots:
            if slot.job:
                stage = "base" if slot.job.base_only else self._stages.get(slot.job.run.run_id, "")
                device = slot.settings.device.replace("auto", "cpu")
                table.add_row(
                    " ", device, _clock(now - slot.since), console.DOING.get(stage, ""), escape(slot.job.run.label)
                )
            elif slot.worker is None:
                table.add_row(" ", "", "", "loading torch", "")
        return table


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
