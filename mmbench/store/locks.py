"""A lock between the processes of one file system. It only saves double work: no result is wrong if it fails.

Where the file system has no locks (some network and user-space ones), work goes on without.

The package filelock does not replace this file. Around it, 58 of these 70 lines would be needed; it asks 20 times a
second for a lock that is held, which opens a file on a shared file system each time, and waits without end where
`flock` answers EACCES.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


_HELD = (errno.EAGAIN, errno.EWOULDBLOCK)
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.EIO, errno.EACCES)


class HeldError(Exception):
    """Another process holds the lock, and we were not to wait."""


@contextlib.contextmanager
def lock(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock for the block's duration.

    The file is removed at the end, so that lock files do not pile up. A process that waited for a removed file sees
    that the file has no name any more, and takes the lock of the file that others will find.

    Yields:
        Whether there is a lock at all.

    Raises:
        HeldError: another process holds it, and `wait` is false.
        OSError: no lock file can be made (a full disk, say).
    """
    file = _acquire(path, wait)
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
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)  # the umask takes its share
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
            if error.errno != errno.ESTALE:  # a network file system says so that the file was removed
                raise
        else:
            os.close(file)
    return None
