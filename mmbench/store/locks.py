"""A lock between the processes of one file system. It only saves double work: no result is wrong if it fails.

On file systems without locks (some network and user-space ones), work goes on without them.

The package filelock is no replacement: 58 of these 70 lines would still be needed; it asks 20 times a second for a lock
that is held, which opens a file on a shared file system each time; and it waits forever where `flock` returns EACCES.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


SOON = 5.0
_HELD = (errno.EAGAIN, errno.EWOULDBLOCK)
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.EIO, errno.EACCES)


class HeldError(Exception):
    """Another process holds the lock, and `wait` is false."""


@contextlib.contextmanager
def lock(path: Path, *, wait: bool = True, waiting: Callable[[], None] = lambda: None) -> Iterator[bool]:
    """Hold the lock for the block's duration; `waiting` is called once if that takes more than `SOON` seconds.

    The file is removed at the end, so that lock files do not pile up. A process that waited for a removed file sees
    that it has no name any more, and locks the new file of that name.

    Yields:
        Whether the file system has locks.

    Raises:
        HeldError: another process holds it, and `wait` is false.
        OSError: no lock file can be made (a full disk, say).
    """
    timer = threading.Timer(SOON, waiting)
    timer.daemon = True
    if wait:
        timer.start()
    try:
        file = _acquire(path, wait)
    finally:
        timer.cancel()
    try:
        yield file is not None
    finally:
        if file is not None:
            with contextlib.suppress(OSError):
                path.unlink()
            os.close(file)


def _acquire(path: Path, wait: bool) -> int | None:
    """An open, locked file; None where there are no locks."""
    while fcntl is not None:
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)  # reduced by the umask
        except PermissionError:
            return None  # another user's lock file: go on without a lock
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if os.fstat(file).st_nlink:
                return file
        except OSError as error:
            os.close(file)
            if error.errno in _HELD:
                raise HeldError from None
            if error.errno in _NO_LOCKS:
                return None
            if error.errno != errno.ESTALE:  # ESTALE: the file was removed on a network file system
                raise
        else:
            os.close(file)
    return None
