"""Identifies processes: whether one still runs, what a killed one left behind, and ending with the parent.

A process is identified by its PID and its start time, since PIDs are used again.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import socket
import threading
import time
from pathlib import Path

import psutil

Process = tuple[int, int | None]
"""PID and start time, as `started` returns it."""


@functools.cache
def machine() -> str:
    """The id of what shares our PIDs: this machine, since its boot, in this container."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts += [
            Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            str(Path("/proc/self/ns/pid").readlink()),
        ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def started(pid: int) -> int | None:
    """The start time of a process of this machine, by a clock that cannot be set where /proc exists.

    Returns:
        The start time; None if there is no such process, or only a zombie.
    """
    try:
        state, *numbers = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None if Path("/proc/self/stat").exists() else _started_without_proc(pid)
    return None if state in (b"Z", b"X") else int(numbers[18])


def _started_without_proc(pid: int) -> int | None:
    try:
        return int(psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def is_alive(pid: int, start: int | None) -> bool | None:
    """Whether the process of this machine with this start time is alive; None if that cannot be known."""
    now = started(pid)
    if now is None and Path("/proc/self/stat").exists() and not Path(f"/proc/{pid}").exists():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # another user's, which this /proc does not show (hidepid, usual on clusters)
            return None
    return now is not None and now == start


def is_stopped(pid: int) -> bool:
    """Whether a process of this machine is frozen (SIGSTOP, Ctrl-Z)."""
    try:
        return bool(psutil.Process(pid).status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP))
    except psutil.Error:
        return False


def this_process() -> Process:
    """This process."""
    return os.getpid(), started(os.getpid())


def owner() -> str:
    """This process, as the start of a file name."""
    pid, start = this_process()
    return f"{machine()}-{pid}-{start}"


def is_left_behind(name: str) -> bool:
    """Whether a file whose name begins with `owner()` belongs to a process of this machine that is dead."""
    where, _, rest = name.partition("-")
    pid, _, rest = rest.partition("-")
    start = rest.partition("-")[0]
    return where == machine() and pid.isdecimal() and start.isdecimal() and is_alive(int(pid), int(start)) is False


def end_with(parent: Process) -> None:
    """From now on, end this process within about a second of its parent's end, even if the parent was killed."""
    threading.Thread(target=_wait_and_exit, args=parent, daemon=True).start()


def _wait_and_exit(pid: int, start: int | None) -> None:
    while started(pid) == start:
        time.sleep(1)
    os._exit(1)
