"""The display of a sweep: its progress, what is being computed, what failed; live in a terminal, else in lines."""

from __future__ import annotations

import time

from rich.console import Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mmbench import console
from mmbench.launcher.log import counted
from mmbench.launcher.pool import Pool
from mmbench.store.stages import STAGES

COLOURS = {"done": "green", "failed": "red", "skipped": "yellow"}
MOST_PRINTED = 20
"""The first reasons are printed as they occur, up to this number."""
LOOK = 1.0
"""Seconds between two looks at the stages in the store."""
LINES = 30.0
"""Seconds between two lines, where there is no terminal."""


class Display:
    """A bar with counts, and a line for each busy slot; each reason of a failure is printed once, above them."""

    def __init__(self, pool: Pool, total: int) -> None:
        self.pool, self.total = pool, total
        self._began, self._looked, self._line = time.monotonic(), 0.0, time.monotonic()
        self._stored = pool.outcome.ended
        self._stages: dict[str, str] = {}
        self._printed: set[tuple[str, str]] = set(pool.outcome.problems)
        self._left_to_print = MOST_PRINTED
        self._live = Live(console=console.err, refresh_per_second=4, transient=True, get_renderable=self._rendered)

    def __enter__(self) -> Display:
        if console.err.is_terminal:
            self._live.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if console.err.is_terminal:
            self._live.__exit__(None, None, None)

    def tick(self) -> None:
        """Print new problems, and look up the current stages."""
        for problem in self.pool.outcome.problems.keys() - self._printed:
            self._printed.add(problem)
            self._print(*problem)
        now = time.monotonic()
        if now - self._looked > LOOK and console.err.is_terminal:
            self._stages, self._looked = self.pool.store.running(), now
        elif now - self._line > LINES and not console.err.is_terminal:
            self._line = now
            console.err.print(escape(self._one_line(now - self._began)), soft_wrap=True)

    def _one_line(self, elapsed: float) -> str:
        statuses = self.pool.outcome.statuses
        busy = sum(1 for slot in self.pool.slots if slot.job)
        return (
            f"{self.pool.outcome.ended}/{self.total} runs ({counted(statuses)}), {busy} workers busy, "
            f"{_clock(elapsed)}{self._left(elapsed)}"
        )

    def _print(self, status: str, reason: str) -> None:
        self._left_to_print -= 1
        if self._left_to_print >= 0:
            console.err.print(f"[{COLOURS[status]}]{status}[/]: {escape(str(reason))}", soft_wrap=True)
        elif self._left_to_print == -1:
            console.warn("there are further reasons; mmbench status lists them")

    def _rendered(self) -> RenderableType:
        outcome, elapsed = self.pool.outcome, time.monotonic() - self._began
        statuses = outcome.statuses
        line = Table.grid(padding=(0, 1))
        line.add_row(
            ProgressBar(max(1, self.total), outcome.ended, width=20),
            f"{outcome.ended}/{self.total} runs",
            Text(f"{_clock(elapsed)}{self._left(elapsed)}", style="dim"),
        )
        counts = [f"[{COLOURS[s]}]{statuses[s]} {s}[/]" for s in COLOURS if statuses[s]]
        before = f" ({outcome.stored} stored before)" * bool(outcome.stored)
        return Group(line, Text.from_markup("  " + (", ".join(counts) or "none yet") + before), self._running())

    def _left(self, elapsed: float) -> str:
        computed = self.pool.outcome.ended - self._stored
        if self.pool.stopping:
            return "; finishing the running jobs"
        return f", about {_clock(elapsed / computed * (self.total - self.pool.outcome.ended))} left" if computed else ""

    def _running(self) -> Table:
        table, now = Table.grid(padding=(0, 1)), time.monotonic()
        for justify in ("left", "right", "left"):
            table.add_column(justify=justify, no_wrap=True)
        if not self.pool.slots:
            table.add_row("", "", "loading torch")
        for slot in self.pool.slots:
            if slot.job:
                kind = "base" if slot.job.base_only else self._stages.get(slot.job.run.run_id, "")
                stage = STAGES[kind].short if kind in STAGES else ""
                device = slot.settings.device.replace("auto", "cpu")
                label = "base model of " * slot.job.base_only + slot.job.run.label
                shortened = Text(label, no_wrap=True, overflow="ellipsis")
                table.add_row(f"  {device}", _clock(now - slot.since), stage, shortened)
            elif slot.worker is None:
                table.add_row("", "", "loading torch")
            elif self.pool.waiting:
                table.add_row("", "", "waiting for results of others")
        return table


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
