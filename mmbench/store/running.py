"""Who is at work on what: one small file per running run. For people and for launchers; no result depends on it.

A process of this machine is looked for by its number and start, which no other process shares. A process elsewhere
shows that it lives by touching its file every ten seconds; the file's age is measured against a file that is touched
now, so that the clocks of machines, and their jumps, do not matter.
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from mmbench.store.files import digest, read_json

BEAT, STALE = 10.0, 60.0
"""Seconds between two signs of life, and after which a process counts as dead."""


@dataclass(frozen=True)
class Mark:
    """A process at a stage of a run. If it is not alive, it was interrupted there."""

    run_id: str
    stage: str
    host: str
    pid: int
    alive: bool


@functools.cache
def place() -> str:
    """Where process numbers mean what they mean here: this machine, since its start, in this container."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts += [
            Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            str(Path("/proc/self/ns/pid").readlink()),
        ]
    return digest(parts)[:12]


def started(pid: int) -> int | None:
    """When a process of this machine started, in ticks of a clock that nobody sets; None if there is none."""
    try:
        state, *numbers = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None if Path("/proc/self/stat").exists() else _started_elsewhere(pid)
    return None if state in (b"Z", b"X") else int(numbers[18])  # killed, and not yet buried by its parent


def lives(pid: int, start: int | None) -> bool | None:
    """Whether the process of this machine that started then is alive; None where we may not know."""
    now = started(pid)
    if now is None and Path("/proc/self/stat").exists() and not Path(f"/proc/{pid}").exists():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # another user's, which this /proc does not show (hidepid, usual on clusters)
            return None
    return now is not None and now == start


def _started_elsewhere(pid: int) -> int | None:
    try:
        return int(psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def owner() -> str:
    """This process, as a part of a file's name."""
    return f"{place()}-{os.getpid()}-{started(os.getpid())}"


def is_left_behind(name: str) -> bool:
    """Whether a file whose name begins with `owner()` belongs to a process of this machine that is dead."""
    where, _, rest = name.partition("-")
    pid, _, rest = rest.partition("-")
    start = rest.partition("-")[0]
    return where == place() and pid.isdecimal() and start.isdecimal() and lives(int(pid), int(start)) is False


class Marks:
    """The marks of a store. `replace` writes a JSON file whole or not at all."""

    def __init__(self, folder: Path, replace: Callable[[Path, dict[str, Any]], None]) -> None:
        self._folder, self._replace = folder, replace
        self._held: set[Path] = set()
        self._lock = threading.Lock()
        self._heart: threading.Thread | None = None

    def set(self, run_id: str, stage: str) -> None:
        """Say that this process is at a stage of a run, until `clear`."""
        path = self._path(run_id)
        pid = os.getpid()
        mark = {"stage": stage, "host": socket.gethostname(), "place": place(), "pid": pid, "started": started(pid)}
        self._replace(path, mark)
        with self._lock:
            self._held.add(path)
            if self._heart is None or not self._heart.is_alive():  # or left behind in the parent by a fork
                self._heart = threading.Thread(target=self._beat, daemon=True)
                self._heart.start()

    def clear(self, run_id: str) -> bool:
        """Take the mark away; whether there was one."""
        with self._lock:
            self._held.discard(self._path(run_id))
        try:
            self._path(run_id).unlink()
        except OSError:
            return False
        return True

    def all(self) -> list[Mark]:
        """All marks, of the living and the dead; what is damaged is left out."""
        found: list[tuple[str, dict[str, Any], float]] = []
        for path in sorted(self._folder.glob("*.json")):
            mark = read_json(path)
            with contextlib.suppress(OSError):  # taken away meanwhile
                if mark is not None and mark.keys() >= {"stage", "host", "place", "pid", "started"}:
                    found.append((path.stem, mark, path.stat().st_mtime))
        now = self._now(max(seen for *_, seen in found)) if found else 0.0
        return [
            Mark(run_id, mark["stage"], mark["host"], mark["pid"], _lives(mark, now - seen))
            for run_id, mark, seen in found
        ]

    def _now(self, otherwise: float) -> float:
        """The time by the file system's own clock; where nothing can be written, the newest sign of life."""
        probe = self._folder.parent / "tmp" / f"{owner()}-{uuid.uuid4().hex[:8]}"
        try:
            probe.touch()
            return probe.stat().st_mtime
        except OSError:
            return otherwise
        finally:
            with contextlib.suppress(OSError):
                probe.unlink()

    def _beat(self) -> None:
        pause = threading.Event()
        while not pause.wait(BEAT):
            with self._lock:
                if not self._held:
                    self._heart = None
                    return
                held = list(self._held)
            for path in held:
                with contextlib.suppress(OSError):
                    os.utime(path)

    def _path(self, run_id: str) -> Path:
        return self._folder / f"{run_id}.json"


def _lives(mark: dict[str, Any], age: float) -> bool:
    here = lives(mark["pid"], mark["started"]) if mark["place"] == place() else None
    if here is not None:
        return here
    return abs(age) <= STALE  # a sign of life from the future was left there before a clock was set back
