"""The records of a store, read once: a parquet file beside them holds what was read, and only changed files are read.

    DIR/cache/records.parquet     the frame of all intact records, with the identity of the file that each came from

A file is taken as unchanged if its name, size, modification time and inode are those it had when it was read. Records
are replaced by renaming a new file onto the old one, so the two exist at once and never share an inode; and a file
modified within `FRESH` before it was listed is read again next time, in case a later write falls into one tick of the
file system's clock. The cache is replaced whole, has checksums on its pages, and is only ever a shortcut: without it,
with a damaged one, with another version's or where none can be written, all records are read.
"""

from __future__ import annotations

import gc
import json
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mmbench.records.columns import COLUMNS, MixedError, joined, typed
from mmbench.store.files import read_json, replacing

File = tuple[int, int, int]

VERSION = 1
"""Raise it when what is cached changes its meaning."""
FRESH = 2_000_000_000
"""Nanoseconds for which a file may change again without showing; 2 s is the coarsest clock of a file system."""
WORTH = 1000
"""Records below which reading them all is quick enough."""
_CHUNK = 2000
"""Records that are held as dictionaries at once: these take ten times the memory of columns."""
_FILE = ("_file", "_size", "_modified", "_inode")


def read_records(folder: Path) -> tuple[pd.DataFrame, list[Path]]:
    """The frame of all intact records of a store (in no order that matters), and the paths of the others.

    Records that are replaced, added or taken away meanwhile are there as they were or as they are, never in parts.
    """
    files = _listed(folder / "records")
    if len(files) < WORTH:
        frame, damaged = _read(folder / "records", sorted(files), files, 0)
        return frame.drop(columns=list(_FILE)), damaged
    now, path = _clock(folder), folder / "cache" / "records.parquet"
    cached = _cached(path, files)
    known = set() if cached is None else set(cached["_file"])
    wanted = sorted(files.keys() - known)
    frame, damaged = _read(folder / "records", wanted, files, now)
    if cached is not None:
        try:
            frame = joined([cached, frame]) if len(frame) else cached
        except MixedError:
            frame, damaged = _read(folder / "records", sorted(files), files, now)
            known = set()
    # One changed record is not worth a rewrite of a hundred thousand.
    if (len(files) - len(known)) * 100 > len(files):
        _write(path, frame)
    return frame.drop(columns=list(_FILE)), damaged


def _listed(folder: Path) -> dict[str, File]:
    """Size, modification time and inode of each record's file by name."""
    files = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.endswith(".json"):
                    try:
                        stat = entry.stat()
                    except FileNotFoundError:  # taken away meanwhile
                        continue
                    files[entry.name] = (stat.st_size, stat.st_mtime_ns, stat.st_ino)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return files


def _clock(folder: Path) -> int:
    """What the file system's clock shows, which need not be this machine's; 0 where nothing can be written."""
    try:
        (folder / "cache").mkdir(exist_ok=True)
        path = folder / "cache" / f".{uuid.uuid4().hex}.tmp"
        path.touch()
        now = path.stat().st_mtime_ns
        path.unlink()
    except OSError:
        return 0
    return now


def _cached(path: Path, files: dict[str, File]) -> pd.DataFrame | None:
    """The cached records whose files are unchanged; None if there is no cache that can be used."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as parquet:
            if (parquet.schema_arrow.metadata or {}).get(b"mmbench") != _stamp():
                return None
            frame = parquet.read().to_pandas()
        identity = zip(*(frame[name].tolist() for name in _FILE), strict=True)
        kept = np.fromiter((files.get(name) == tuple(rest) for name, *rest in identity), dtype=bool, count=len(frame))
    except (OSError, ValueError, KeyError, TypeError):  # pyarrow's errors are ValueErrors and OSErrors
        return None
    return frame if kept.all() else frame[kept].reset_index(drop=True)


def _stamp() -> bytes:
    return json.dumps([VERSION, COLUMNS]).encode()


def _read(folder: Path, names: Sequence[str], files: dict[str, File], now: int) -> tuple[pd.DataFrame, list[Path]]:
    """Read these records in chunks; all at once, if chunks turn out not to fit together."""
    for size in (_CHUNK, max(len(names), 1)):
        damaged: list[Path] = []
        chunks = [names[start : start + size] for start in range(0, len(names), size)] or [[]]
        try:
            with _uninterrupted():
                return joined([_chunk(folder, chunk, files, now, damaged) for chunk in chunks]), damaged
        except MixedError:
            continue
    raise AssertionError("one chunk is never mixed")


def _chunk(folder: Path, names: Sequence[str], files: dict[str, File], now: int, damaged: list[Path]) -> pd.DataFrame:
    records: list[dict[str, Any]] = []
    for name in names:
        path = folder / name
        record = read_json(path)
        if record is not None and record.get("run_id", path.stem) == path.stem:
            size, modified, inode = files[name]
            seen = -1 if modified > now - FRESH else modified
            records.append({**record, "_file": name, "_size": size, "_modified": seen, "_inode": inode})
        elif path.exists():
            damaged.append(path)
    frame = typed(records)
    for name in _FILE:
        dtype: Any = "string" if name == "_file" else "Int64"
        frame[name] = frame[name].astype(dtype) if name in frame else pd.Series(dtype=dtype)
    return frame


def _write(path: Path, frame: pd.DataFrame) -> None:
    """Replace the cache; without a place to write to, do without."""
    try:
        with replacing(path) as temporary:
            table = pa.Table.from_pandas(frame, preserve_index=False)
            table = table.replace_schema_metadata({**(table.schema.metadata or {}), b"mmbench": _stamp()})
            pq.write_table(table, temporary, write_page_checksum=True)
    except OSError:
        return


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Without the collection of cycles, which looks through all dictionaries again and again and finds none."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
