"""The log of a sweep, `DIR/logs/SWEEP.log`: a line for each run that ends, for each warning, and for start and end.

It is for people. Nothing reads it, and a sweep goes on if it cannot be written.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmbench.run import Run


class Log:
    """Appends lines to a file, each with its time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._since: dict[str, float] = {}

    def write(self, message: str) -> None:
        """Append a message as one line."""
        line = f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {' '.join(message.split())}\n"
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line)

    def and_tell(self, tell: Callable[[str], None]) -> Callable[[str], None]:
        """`tell` that writes each message here, too."""

        def both(message: str) -> None:
            self.write(f"note: {message}")
            tell(message)

        return both

    def started(self, run: Run) -> None:
        """A run has begun."""
        self._since[run.run_id] = time.monotonic()

    def ended(self, run: Run, record: dict[str, Any]) -> None:
        """A run has ended."""
        took = time.monotonic() - self._since.pop(run.run_id, time.monotonic())
        reason = f": {record['error']}" if record["error"] else ""
        self.write(f"{record['status']} {run.run_id} {run.label} ({took:.1f} s){reason}")


def counted(statuses: Counter[str]) -> str:
    """`8 done, 4 skipped`."""
    return ", ".join(f"{count} {status}" for status, count in sorted(statuses.items()) if count) or "none has a record"
