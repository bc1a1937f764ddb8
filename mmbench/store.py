"""Results by content: one folder per stage result, named by the hash of the stage's inputs; one file per run's record.

    DIR/stages/KIND/KEY/result.json       inputs, values, checksums
    DIR/stages/KIND/KEY/*.safetensors     tensors (weights, loss curves)
    DIR/records/RUN_ID.json               the run's row
    DIR/sweeps/*.json                     the runs that each sweep asked for

Everything is written under `DIR/tmp` and renamed into place, so a reader never sees half a result, and a process killed
at any moment loses only what it had not finished. Everything is checked when read: what does not match its checksum is
set aside under `DIR/damaged` and computed again. Nothing here can execute code when read: JSON and safetensors only.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import shutil
import uuid
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from mmbench.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import torch

    Tensors = Mapping[str, torch.Tensor]
    Computed = tuple[dict[str, Any], dict[str, Tensors]]

VERSION = 3
"""Part of every key. Raise it when a stage's meaning changes, so that older results are not taken for new ones."""


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


def key_of(kind: str, inputs: Mapping[str, Any]) -> str:
    """The name of a stage's result: a hash of what it is and of exactly its inputs."""
    return digest({"version": VERSION, "kind": kind, "inputs": inputs})[:24]


def seed_of(*parts: Any) -> int:
    """A 62-bit seed from a hash of its inputs."""
    return int(digest(list(parts))[:15], 16)


def read_json(path: Path) -> dict[str, Any] | None:
    """The content of a file written by `write_json`, or None if it is missing, cut short or altered."""
    try:
        envelope = json.loads(path.read_bytes())
        content = envelope["content"]
        return content if isinstance(content, dict) and envelope["sha256"] == digest(content) else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Stage:
    """A stored stage result."""

    kind: str
    values: dict[str, Any]
    folder: Path

    def tensors(self, name: str) -> dict[str, torch.Tensor]:
        """The tensors stored as `name`."""
        from safetensors.torch import load_file

        return load_file(self.folder / f"{name}.safetensors")


class Store:
    """The results folder. `tell` receives a sentence about anything found damaged."""

    def __init__(self, root: Path, tell: Callable[[str], None] = lambda message: None) -> None:
        self.root = root.absolute()
        self.tell = tell
        self.computed: Counter[str] = Counter()
        """How many results of each kind this object has computed, rather than found."""

    def prepare(self) -> None:
        """Make the folder; `StoreError` if it cannot be written to."""
        try:
            for name in ("stages", "records", "sweeps", "locks", "tmp", "running"):
                (self.root / name).mkdir(parents=True, exist_ok=True)
            probe = self.root / "tmp" / uuid.uuid4().hex
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise StoreError(
                f"results = {str(self.root)!r} cannot be written to: {error.strerror}; choose another folder"
            ) from None

    # -- stages -------------------------------------------------------------------------------------------------------

    def stage(self, kind: str, inputs: dict[str, Any], compute: Callable[[], Computed]) -> Stage:
        """The stored result, or what `compute` returns, stored.

        Of several processes that ask for the same result at once, one computes it and the others wait for it.

        Args:
            kind: the name of the stage.
            inputs: everything that the result depends on, as JSON data.
            compute: returns the values (JSON data) and named groups of tensors.
        """
        key = key_of(kind, inputs)
        found = self.load(kind, key)
        if found is None:
            with FileLock(self.root / "locks" / f"{kind}-{key}"):
                found = self.load(kind, key)
                if found is None:
                    values, tensors = compute()
                    found = self._save(kind, key, inputs, values, tensors)
                    self.computed[kind] += 1
        return found

    def has(self, kind: str, inputs: dict[str, Any]) -> bool:
        """Whether a result lies there; not checked, for planning."""
        return (self._folder(kind, key_of(kind, inputs)) / "result.json").exists()

    def load(self, kind: str, key: str) -> Stage | None:
        """The result of that key, checked; None if there is none or it is damaged."""
        folder = self._folder(kind, key)
        if not folder.exists():
            return None
        content = read_json(folder / "result.json")
        if content is not None and all(_intact(folder / name, sha) for name, sha in content["files"].items()):
            return Stage(kind, content["values"], folder)
        self._set_aside(folder)
        return None

    def _folder(self, kind: str, key: str) -> Path:
        return self.root / "stages" / kind / key

    def _save(
        self, kind: str, key: str, inputs: dict[str, Any], values: dict[str, Any], tensors: dict[str, Tensors]
    ) -> Stage:
        from safetensors.torch import save_file

        values = plain(values)
        with self._scratch() as scratch:
            scratch.mkdir()
            for name, group in tensors.items():
                save_file(
                    {k: v.detach().cpu().contiguous().clone() for k, v in group.items()},
                    scratch / f"{name}.safetensors",
                )
            files = {path.name: _file_hash(path) for path in scratch.iterdir()}
            content = {"version": VERSION, "kind": kind, "inputs": plain(inputs), "values": values, "files": files}
            _write(scratch / "result.json", content)
            for path in scratch.iterdir():
                _flush(path)
            target = self._folder(kind, key)
            target.parent.mkdir(parents=True, exist_ok=True)
            # A rename onto a result that another machine finished meanwhile fails, and its result is as good as ours.
            with contextlib.suppress(OSError):
                scratch.rename(target)
            if not target.exists():
                raise StoreError(f"could not write the {kind} result to {target}")
        return Stage(kind, values, self._folder(kind, key))

    # -- records and sweeps -------------------------------------------------------------------------------------------

    def write_record(self, record: dict[str, Any]) -> None:
        """Store a run's row, replacing an older one."""
        self._replace(self.root / "records" / f"{record['run_id']}.json", record)

    def read_record(self, run_id: str) -> dict[str, Any] | None:
        """A run's row, or None; a damaged one is set aside."""
        path = self.root / "records" / f"{run_id}.json"
        record = read_json(path)
        if record is None and path.exists():
            self._set_aside(path)
        return record

    def forget_record(self, run_id: str) -> None:
        """Take a run's row away, before the run is tried again."""
        (self.root / "records" / f"{run_id}.json").unlink(missing_ok=True)

    def record_ids(self) -> set[str]:
        """The runs that have a record, of whatever status."""
        return {path.stem for path in (self.root / "records").glob("*.json")}

    def write_sweep(self, sweep: dict[str, Any]) -> str:
        """Remember which runs a sweep asked for, so that `status` can tell what is missing; the sweep's name."""
        name = digest(sweep)[:16]
        self._replace(self.root / "sweeps" / f"{name}.json", sweep)
        return name

    def read_sweep(self, name: str) -> dict[str, Any] | None:
        """The sweep of that name, or None if it is missing or damaged."""
        return read_json(self.root / "sweeps" / f"{name}.json")

    def sweeps(self) -> list[dict[str, Any]]:
        """All sweeps that were started on this store."""
        paths = sorted((self.root / "sweeps").glob("*.json"))
        sweeps = {path: read_json(path) for path in paths}
        for path, sweep in sweeps.items():
            if sweep is None:
                self.tell(f"{path} is damaged: runs that only it asked for are not counted")
        return [sweep for sweep in sweeps.values() if sweep is not None]

    def mark(self, run_id: str, stage: str) -> None:
        """Say that this process is at a stage of a run."""
        self._replace(self._mark(run_id), {"pid": os.getpid(), "stage": stage})

    def clear_mark(self, run_id: str) -> bool:
        """Take the mark away; whether there was one."""
        try:
            self._mark(run_id).unlink()
        except FileNotFoundError:
            return False
        return True

    def running(self) -> dict[str, str]:
        """The stage of each run whose process is alive on this machine."""
        import psutil

        marks = {path.stem: read_json(path) for path in (self.root / "running").glob("*.json")}
        return {run_id: mark["stage"] for run_id, mark in marks.items() if mark and psutil.pid_exists(mark["pid"])}

    def _mark(self, run_id: str) -> Path:
        return self.root / "running" / f"{run_id}.json"

    # -- files --------------------------------------------------------------------------------------------------------

    def _replace(self, path: Path, content: dict[str, Any]) -> None:
        with self._scratch() as scratch:
            _write(scratch, plain(content))
            _flush(scratch)
            scratch.replace(path)

    @contextlib.contextmanager
    def _scratch(self) -> Iterator[Path]:
        path = self.root / "tmp" / uuid.uuid4().hex
        try:
            yield path
        except OSError as error:
            raise StoreError(f"could not write to results = {str(self.root)!r}: {error.strerror or error}") from error
        finally:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def _set_aside(self, path: Path) -> None:
        aside = self.root / "damaged" / f"{path.parent.name}-{path.name}-{uuid.uuid4().hex[:6]}"
        try:
            aside.parent.mkdir(exist_ok=True)
            path.rename(aside)
        except FileNotFoundError:  # another process has set it aside already
            return
        except OSError as error:
            raise StoreError(f"{path} is damaged and cannot be moved away: {error.strerror}; remove it") from None
        self.tell(f"{path} is damaged: set aside as {aside}; it will be computed again")


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(canonical({"sha256": digest(content), "content": content}) + "\n")


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _intact(path: Path, sha256: str) -> bool:
    try:
        return _file_hash(path) == sha256
    except OSError:
        return False
