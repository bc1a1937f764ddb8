"""How much memory this machine or container has, and how much a process uses."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil

GIB = 2**30
SCARCE = 0.04
"""With less than this share of the memory available, the largest worker is ended, before the system kills a process."""
CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
"""The files of the memory limit and usage, for cgroups of version 2 and 1."""


def total_and_available() -> tuple[int, int]:
    """Total bytes of memory, and bytes that are available without swapping."""
    machine = psutil.virtual_memory()
    total, available = machine.total, machine.available
    for limit, usage in CGROUPS:
        with contextlib.suppress(OSError, ValueError):  # "max" is not a number: there is no limit
            allowed = int(Path(limit).read_text())
            if allowed < total:
                total, available = allowed, min(available, allowed - int(Path(usage).read_text()) + _cached())
    return total, available


def _cached() -> int:
    """Bytes of recently read files: they count as the container's usage, but the system can free them."""
    for path in ("/sys/fs/cgroup/memory.stat", "/sys/fs/cgroup/memory/memory.stat"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            numbers = dict(line.split() for line in Path(path).read_text().splitlines())
            return int(numbers.get("inactive_file") or numbers["total_inactive_file"])
    return 0


def resident(pid: int) -> int:
    """Bytes of memory of a process; 0 if it does not exist."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0
