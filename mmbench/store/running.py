"""Which runs are being computed now: a heartbeat file for each process that computes one. No result depends on it.

For a process of this machine, the system says whether it is alive. A process elsewhere shows that it is alive by
touching its file every ten seconds. The age of a file is measured against a file that is touched now, so that
differences between clocks do not matter.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmbench.store.files import read_json, unfinished
from mmbench.store.processes import is_alive, is_left_behind, is_stopped, machine, owner, this_process
from mmbench.store.stages import doing

BEAT, STALE = 10.0, 60.0
"""Seconds between two heartbeats, and after which a process without one counts as dead."""


@dataclass(frozen=True)
class Heartbeat:
    """A process that computes a stage of a run. If it is not alive, it was interrupted there."""

    run_id: str
    stage: str
    host: str
    pid: int
    alive: bool
    stopped: bool = False
    """Alive, but frozen (SIGSTOP, Ctrl-Z): it computes nothing until it is continued."""

    def __str__(self) -> str:
        """Who it is, and what to do if it stands still."""
        remedy = f"kill -CONT {self.pid} lets it go on; if it is killed, its work is taken over"
        return f"process {self.pid} on {self.host}, {doing(self.stage)}" + f" (stopped: {remedy})" * self.stopped


def waiting_for(beats: Iterable[Heartbeat]) -> str:
    """The message that nothing goes on until other processes are done."""
    who = "; ".join(sorted({str(beat) for beat in beats})) or "another process"
    return f"waiting for results that others are computing in this store: {who}"


class Heartbeats:
    """The heartbeat files of a store. `replace` writes a JSON file atomically."""

    def __init__(self, folder: Path, replace: Callable[[Path, dict[str, Any]], None]) -> None:
        self._folder, self._replace = folder, replace
        self._ours: set[Path] = set()
        self._lock = threading.Lock()
        self._heart: threading.Thread | None = None

    def write(self, run_id: str, stage: str) -> None:
        """Record that this process computes a stage of a run, until `remove`."""
        path, (pid, start) = self._path(run_id), this_process()
        content = {"stage": stage, "host": socket.gethostname(), "machine": machine(), "pid": pid, "started": start}
        self._replace(path, content)
        with self._lock:
            self._ours.add(path)
            if self._heart is None or not self._heart.is_alive():  # or left behind in the parent by a fork
                self._heart = threading.Thread(target=self._beat, daemon=True)
                self._heart.start()

    def remove(self, run_id: str) -> bool:
        """Remove this process's file of a run, and those of dead processes; another sweep's that is alive stays.

        Returns:
            Whether there was one.
        """
        ours, found = self._path(run_id), False
        with self._lock:
            self._ours.discard(ours)
        for path in self._folder.glob(f"{run_id}-*.json"):
            if path == ours or is_left_behind(path.stem.partition("-")[2]):
                with contextlib.suppress(OSError):
                    path.unlink()
                    found = True
        return found

    def all(self) -> list[Heartbeat]:
        """All heartbeats, of living and of dead processes; damaged files are left out."""
        files: list[tuple[str, dict[str, Any], float]] = []
        for path in sorted(self._folder.glob("*.json")):
            content = read_json(path)
            with contextlib.suppress(OSError):  # removed meanwhile
                if content is not None and content.keys() >= {"stage", "host", "machine", "pid", "started"}:
                    files.append((path.stem.partition("-")[0], content, path.stat().st_mtime))
        now = self._now(max(touched for *_, touched in files)) if files else 0.0
        return [
            Heartbeat(run_id, content["stage"], content["host"], content["pid"], *_state(content, now - touched))
            for run_id, content, touched in files
        ]

    def _now(self, fallback: float) -> float:
        """The time by the file system's own clock; where nothing can be written, the newest heartbeat."""
        try:
            with unfinished(self._folder.parent / "tmp") as probe:
                probe.touch()
                return probe.stat().st_mtime
        except OSError:
            return fallback

    def _beat(self) -> None:
        pause = threading.Event()
        while not pause.wait(BEAT):
            with self._lock:
                if not self._ours:
                    self._heart = None
                    return
                ours = list(self._ours)
            for path in ours:
                with contextlib.suppress(OSError):
                    os.utime(path)

    def _path(self, run_id: str) -> Path:
        return self._folder / f"{run_id}-{owner()}.json"


def _state(content: dict[str, Any], age: float) -> tuple[bool, bool]:
    """Whether the process is alive, and whether it is stopped."""
    here = is_alive(content["pid"], content["started"]) if content["machine"] == machine() else None
    if here is not None:
        return here, here and is_stopped(content["pid"])
    return abs(age) <= STALE, False  # a negative age: the clock was set back
