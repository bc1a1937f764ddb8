"""JSON files with a checksum, and atomic writes.

    {"content":{...},"sha256":"..."}

Each content has exactly one such text. A file that differs from what `write_json` would write is damaged: cut short,
altered, with repeated keys, in another encoding, not a file. Reading never executes code.

Files are written under a temporary name, which contains the writing process. So a reader never sees half a file, and
what a killed process has left is recognised and removed later (`remove_left_behind`).
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mmbench.store.processes import is_left_behind, owner

_HEAD, _MIDDLE, _TAIL = b'{"content":', b',"sha256":"', b'"}\n'
_END = len(_MIDDLE) + 64 + len(_TAIL)
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


class DamagedError(ValueError):
    """A file that is not as it was written; `str(error)` says how it differs."""


@contextmanager
def unfinished(folder: Path) -> Iterator[Path]:
    """A new path in `folder`, for a file or a folder that is being written; removed at the end if it is still there.

    Yields:
        The path, at which there is nothing yet.
    """
    path = folder / f".{owner()}-{uuid.uuid4().hex[:12]}"
    try:
        yield path
    finally:
        _remove(path)


def remove_left_behind(folder: Path) -> None:
    """Remove what killed processes have left unfinished in `folder`."""
    for path in folder.glob(".*"):
        if is_unfinished(path):
            _remove(path)


def is_unfinished(path: Path) -> bool:
    """Whether the process that was writing this path is dead."""
    return path.name.startswith(".") and is_left_behind(path.name[1:])


@contextmanager
def replacing(path: Path, scratch: Path | None = None) -> Iterator[Path]:
    """A temporary path to write to; moved to `path` when the block succeeds, so that a reader sees all or nothing.

    Args:
        path: the file to create or replace.
        scratch: a folder for the temporary file, on the same file system, whose owner calls `remove_left_behind`.
            Without it, the file's own folder, where what killed processes have left is removed now.

    Yields:
        The temporary path.
    """
    if scratch is None:
        remove_left_behind(path.parent)
    with unfinished(scratch or path.parent) as temporary:
        yield temporary
        temporary.replace(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def plain(value: Any) -> Any:
    """JSON data with NaN and infinities as null."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def canonical(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON, as hex."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def write(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Create a file, with the permissions that the umask leaves.

    Args:
        path: where there is no file yet.
        data: its bytes.
        durable: whether it must survive a power failure.
    """
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        if durable:
            os.fsync(file.fileno())


def write_json(path: Path, content: dict[str, Any], *, durable: bool = True) -> None:
    """Create a JSON file with a checksum, for `read`.

    Args:
        path: where there is no file yet.
        content: JSON data without NaN and infinities.
        durable: whether it must survive a power failure.
    """
    text = canonical(content).encode()
    sha256 = hashlib.sha256(text).hexdigest().encode()
    write(path, _HEAD + text + _MIDDLE + sha256 + _TAIL, durable=durable)


def read(path: Path) -> dict[str, Any]:
    """The content of a file written by `write_json`.

    Returns:
        The content.

    Raises:
        DamagedError: it is missing or is not what was written.
        OSError: it cannot be read, so that nothing is known about it.
    """
    data = _bytes(path)
    text, end = data[len(_HEAD) : -_END], data[-_END:]
    if data[: len(_HEAD)] + end != _HEAD + _MIDDLE + hashlib.sha256(text).hexdigest().encode() + _TAIL:
        raise DamagedError("it does not match its checksum")
    try:
        content = json.loads(text)
        if isinstance(content, dict) and canonical(content).encode() == text:
            return content
    except (ValueError, RecursionError):
        pass
    raise DamagedError("it is not a JSON object as mmbench writes it")


def read_json(path: Path) -> dict[str, Any] | None:
    """The content of a file written by `write_json`, or None if it is missing, damaged or unreadable."""
    try:
        return read(path)
    except (OSError, DamagedError):
        return None


def check(path: Path, sha256: str) -> None:
    """Compare a file with its checksum.

    Raises:
        DamagedError: it is missing or has another checksum.
        OSError: it cannot be read.
    """
    if hashlib.sha256(_bytes(path)).hexdigest() != sha256:
        raise DamagedError(f"{path.name} does not match its checksum")


def _bytes(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe, say, would never end
            raise DamagedError(f"{path.name} is not a file")
        return path.read_bytes()
    except OSError as error:
        if error.errno in _ABSENT:
            raise DamagedError(f"{path.name} is missing") from None
        raise


def last_written(path: Path) -> tuple[int, str]:
    """A key that sorts files by the time at which they were last written."""
    try:
        return path.stat().st_mtime_ns, path.name
    except OSError:  # removed meanwhile
        return 0, path.name


def unreadable(path: Path, error: OSError) -> str:
    """The message for an unreadable file, which is not set aside: it may be intact, and another user's."""
    return f"{path} cannot be read: {error.strerror}; make it readable, or remove it to compute it again"
