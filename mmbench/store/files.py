"""JSON files that prove themselves: one text per content, with its checksum. Written whole or not at all.

    {"content":{...},"sha256":"..."}

A file that is not, byte for byte, what `write_json` writes for some content is damaged: cut short, altered, of repeated
keys, of another encoding, no file at all. Nothing here can execute code when read.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_HEAD, _MIDDLE, _TAIL = b'{"content":', b',"sha256":"', b'"}\n'
_END = len(_MIDDLE) + 64 + len(_TAIL)
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


class DamagedError(ValueError):
    """A file that is not what was once written there; `str(error)` says in which way."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path to write to; moved to `path` when the block succeeds, so that a reader sees all or nothing."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


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
    """Make a new file, of the mode that the umask asks for. Durable: it outlasts a loss of power."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        if durable:
            os.fsync(file.fileno())


def write_json(path: Path, content: dict[str, Any], *, durable: bool = True) -> None:
    """Make a new file that `read` returns the content of."""
    text = canonical(content).encode()
    sha256 = hashlib.sha256(text).hexdigest().encode()
    write(path, _HEAD + text + _MIDDLE + sha256 + _TAIL, durable=durable)


def read(path: Path) -> dict[str, Any]:
    """The content of a file written by `write_json`.

    Raises:
        DamagedError: it is missing or is not what was written.
        OSError: the system does not let us read it, so that nothing can be said about it.
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
    raise DamagedError("it is no JSON object in the form that is written here")


def read_json(path: Path) -> dict[str, Any] | None:
    """The content of a file written by `write_json`, or None if it is missing, damaged or unreadable."""
    try:
        return read(path)
    except (OSError, DamagedError):
        return None


def check(path: Path, sha256: str) -> None:
    """Compare a file with its checksum; raises as `read` does."""
    if hashlib.sha256(_bytes(path)).hexdigest() != sha256:
        raise DamagedError(f"{path.name} does not match its checksum")


def _bytes(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe, say, would be waited for without end
            raise DamagedError(f"{path.name} is no file")
        return path.read_bytes()
    except OSError as error:
        if error.errno in _ABSENT:
            raise DamagedError(f"{path.name} is missing") from None
        raise
