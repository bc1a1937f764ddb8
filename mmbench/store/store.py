"""Results on disk: a folder per stage result, named by the hash of the stage's inputs, and a file per run's record.

    DIR/stages/KIND/KEY/result.json       inputs, values, checksums
    DIR/stages/KIND/KEY/*.safetensors     tensors (weights, loss curves)
    DIR/records/RUN_ID.json               the run's row
    DIR/sweeps/*.json                     the runs of each sweep

Everything is written under `DIR/tmp` and renamed into place: a reader never sees half a result, and a process that is
killed loses only unfinished results. The first to rename wins; locks only save double work. Everything is checked when
it is read: a file that is damaged, has another result's name or comes from another version is moved to `DIR/damaged`
and computed again. Reading never executes code: all files are JSON or safetensors.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from mmbench.errors import BusyError, StoreError
from mmbench.store.files import (
    DamagedError,
    check,
    digest,
    last_written,
    plain,
    read,
    read_json,
    remove_left_behind,
    replacing,
    unfinished,
    unreadable,
    write,
    write_json,
)
from mmbench.store.locks import HeldError, lock
from mmbench.store.running import Heartbeat, Heartbeats, waiting_for
from mmbench.store.stages import Stage, Tensors
from mmbench.store.versions import is_newer

Computed = tuple[dict[str, Any], dict[str, Tensors]]

VERSION = 4
"""Part of every key. Raise it when a stage's meaning changes, so that older results are not taken for new ones."""


def key_of(kind: str, inputs: Mapping[str, Any]) -> str:
    """The name of a stage's result: a hash of its kind and of exactly its inputs."""
    return digest({"version": VERSION, "kind": kind, "inputs": inputs})[:24]


def seed_of(*parts: Any) -> int:
    """A seed of at most 60 bits: a hash of the parts."""
    return int(digest(list(parts))[:15], 16)


class RecordFile(NamedTuple):
    """What a record's file holds."""

    state: Literal["ok", "damaged", "older", "newer", "foreign"]
    """`older`, `newer`: of another version of the store; `foreign`: the record of another run."""
    record: dict[str, Any] | None
    """The row, if the state is `ok`."""
    reason: str
    """What is wrong with the file, as the end of a sentence that begins with its path."""


def look(path: Path) -> RecordFile:
    """Read the file of a record, without changing anything. One that cannot be read counts as damaged."""
    try:
        return _look(path)
    except OSError as error:
        return RecordFile("damaged", None, f"cannot be read: {error.strerror}")


def _look(path: Path) -> RecordFile:
    try:
        record = read(path)
    except DamagedError as damage:
        return RecordFile("damaged", None, f"is damaged: {damage}")
    if record.get("store_version") != VERSION:
        version = record.get("store_version", "unknown")
        if newer := is_newer(version, VERSION):
            return RecordFile("newer", None, newer)
        return RecordFile("older", None, f"is of another version of the store ({version}, not {VERSION})")
    if record.get("run_id") != path.stem:
        return RecordFile("foreign", None, "is the record of another run, copied here")
    return RecordFile("ok", record, "")


class Store:
    """The results folder. `tell` receives warnings about it."""

    def __init__(self, root: Path, tell: Callable[[str], None] = lambda message: None) -> None:
        self.root = root.absolute()
        self.tell = tell
        self.computed: Counter[str] = Counter()
        """How many results of each kind this object has computed, rather than read."""
        self._scratch = self.root / "tmp"
        self._heartbeats = Heartbeats(self.root / "running", partial(self._replace, durable=False))
        self._warned_of_locks = False

    def prepare(self) -> None:
        """Make the folder, and remove unfinished files of killed processes.

        Raises:
            StoreError: it cannot be written to.
        """
        try:
            for name in ("stages", "records", "sweeps", "locks", "tmp", "running"):
                (self.root / name).mkdir(parents=True, exist_ok=True)
            with unfinished(self._scratch) as probe:
                probe.touch()
        except OSError as error:
            raise StoreError(
                f"results = {str(self.root)!r} cannot be written to: {error.strerror}; choose another folder"
            ) from None
        remove_left_behind(self._scratch)

    # -- stages -------------------------------------------------------------------------------------------------------

    def stage(self, kind: str, inputs: dict[str, Any], compute: Callable[[], Computed], *, wait: bool = True) -> Stage:
        """The stored result, or what `compute` returns, stored.

        If several processes need the same result at once, one computes it and the others wait for it.

        Args:
            kind: the name of the stage.
            inputs: everything that the result depends on, as JSON data.
            compute: returns the values (JSON data) and named groups of tensors.
            wait: whether to wait for a result that another process is computing.

        Returns:
            The stored result.

        Raises:
            BusyError: another process is computing the result, and `wait` is false.
            StoreError: the result cannot be read or written.
        """
        key = key_of(kind, inputs)
        stage = self.load(kind, key)
        if stage is None:
            with self._locked(f"{kind}-{key}", wait):
                stage = self.load(kind, key)
                if stage is None:
                    values, tensors = compute()
                    stage = self._save(kind, key, inputs, values, tensors)
                    self.computed[kind] += 1
        return stage

    def has(self, kind: str, inputs: dict[str, Any]) -> bool:
        """Whether the result is stored; for planning, so it is not checked."""
        return self.has_key(kind, key_of(kind, inputs))

    def has_key(self, kind: str, key: str) -> bool:
        """Whether the result of that key is stored; not checked."""
        return os.path.lexists(self._folder(kind, key) / "result.json")

    def load(self, kind: str, key: str) -> Stage | None:
        """The result of that key, checked.

        Returns:
            None if there is none, or if it is not this result and was moved to `DIR/damaged`.

        Raises:
            StoreError: it cannot be read, or not moved.
        """
        folder = self._folder(kind, key)
        if not os.path.lexists(folder):
            return None
        try:
            return read_stage(folder)
        except DamagedError as damage:
            self.set_aside(folder, f"is damaged: {damage}")
        except OSError as error:
            raise StoreError(unreadable(folder, error)) from None
        return None

    def _folder(self, kind: str, key: str) -> Path:
        return self.root / "stages" / kind / key

    @contextlib.contextmanager
    def _locked(self, name: str, wait: bool) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            try:
                has_locks = stack.enter_context(lock(self.root / "locks" / name, wait=wait, waiting=self._tell_waiting))
            except HeldError:
                raise BusyError(f"another process is computing {name}") from None
            except OSError as error:
                raise self._unwritable(error) from error
            if not has_locks and not self._warned_of_locks:
                self._warned_of_locks = True
                self.tell(f"{self.root} has no file locks: two processes may compute the same result; one copy is kept")
            yield

    def _tell_waiting(self) -> None:
        self.tell(waiting_for(beat for beat in self.active() if beat.pid != os.getpid()))

    def _save(
        self, kind: str, key: str, inputs: dict[str, Any], values: dict[str, Any], tensors: dict[str, Tensors]
    ) -> Stage:
        from safetensors.torch import save

        values, inputs = plain(values), plain(inputs)
        if key_of(kind, inputs) != key:
            raise TypeError(f"the inputs of {kind} are not JSON data: {inputs}")
        with self._writing(), unfinished(self._scratch) as scratch:
            scratch.mkdir()
            files = {}
            for name, group in tensors.items():
                data = save({k: v.detach().cpu().contiguous().clone() for k, v in group.items()})
                files[f"{name}.safetensors"] = hashlib.sha256(data).hexdigest()
                write(scratch / f"{name}.safetensors", data)
            content = {"version": VERSION, "kind": kind, "inputs": inputs, "values": values, "files": files}
            write_json(scratch / "result.json", content)
            return self._publish(scratch, kind, key, values)

    def _publish(self, scratch: Path, kind: str, key: str, values: dict[str, Any]) -> Stage:
        """Rename a result into place, or return the one that another process has finished meanwhile."""
        target = self._folder(kind, key)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            scratch.rename(target)
        except OSError:
            theirs = self.load(kind, key)  # moves away anything there that is not this result
            if theirs is not None:
                return theirs
            scratch.rename(target)
        return Stage(kind, values, target)

    # -- records and sweeps -------------------------------------------------------------------------------------------

    def write_record(self, record: dict[str, Any]) -> dict[str, Any]:
        """Store a run's row. It replaces an older row, unless only the older one is done.

        Returns:
            The row that is stored now.

        Raises:
            StoreError: it cannot be written.
        """
        record = plain({**record, "store_version": VERSION})
        older = self.read_record(record["run_id"])
        if older is not None and older["status"] == "done" and record["status"] != "done":
            return older  # another sweep succeeded with it
        self._replace(self._record(record["run_id"]), record)
        return record

    def read_record(self, run_id: str) -> dict[str, Any] | None:
        """A run's row.

        Returns:
            None if there is none, or if it is not this run's row and was moved to `DIR/damaged`.

        Raises:
            StoreError: it cannot be read, or not moved.
        """
        path = self._record(run_id)
        if not os.path.lexists(path):
            return None
        try:
            file = _look(path)
        except OSError as error:
            raise StoreError(unreadable(path, error)) from None
        if file.state == "newer":
            raise StoreError(f"{path} {file.reason}")
        if file.state != "ok":
            self.set_aside(path, file.reason)
        return file.record

    def forget_record(self, run_id: str) -> None:
        """Remove the row of a run that is to be tried again; a run that is done keeps its row."""
        record = self.read_record(run_id)
        if record is not None and record["status"] != "done":
            self._record(run_id).unlink(missing_ok=True)

    def record_ids(self) -> set[str]:
        """The runs that have a record, of whatever status."""
        return {path.stem for path in (self.root / "records").glob("*.json")}

    def write_sweep(self, sweep: dict[str, Any]) -> str:
        """Store which runs a sweep has, so that `status` knows which are missing.

        Returns:
            The sweep's name.
        """
        sweep = {**sweep, "store_version": VERSION}
        name = digest(sweep)[:16]
        self._replace(self.root / "sweeps" / f"{name}.json", sweep)
        return name

    def read_sweep(self, name: str) -> dict[str, Any] | None:
        """The sweep of that name, or None if it is missing or damaged."""
        return read_json(self.root / "sweeps" / f"{name}.json")

    def sweeps(self) -> list[dict[str, Any]]:
        """All sweeps that were started on this store, in the order in which each was last started."""
        return list(self.named_sweeps().values())

    def named_sweeps(self) -> dict[str, dict[str, Any]]:
        """The same by name."""
        intact = {}
        for path in sorted((self.root / "sweeps").glob("*.json"), key=last_written):
            sweep = read_json(path)
            if sweep is None or digest(sweep)[:16] != path.stem or not isinstance(sweep.get("runs"), dict):
                self.tell(f"{path} is damaged: runs that only it contains are not counted")
            else:
                intact[path.stem] = sweep
        return intact

    def _record(self, run_id: str) -> Path:
        return self.root / "records" / f"{run_id}.json"

    # -- what is being computed ---------------------------------------------------------------------------------------

    def write_heartbeat(self, run_id: str, stage: str) -> None:
        """Record that this process computes a stage of a run, until `remove_heartbeat`."""
        self._heartbeats.write(run_id, stage)

    def remove_heartbeat(self, run_id: str) -> bool:
        """Record that the run is no longer being computed.

        Returns:
            Whether there was a heartbeat.
        """
        return self._heartbeats.remove(run_id)

    def running(self) -> dict[str, str]:
        """The stage of each run whose process is alive, here or on another machine."""
        return {beat.run_id: beat.stage for beat in self.active()}

    def active(self) -> list[Heartbeat]:
        """The heartbeats of processes that are alive; two may be at stages of one run."""
        return [beat for beat in self._heartbeats.all() if beat.alive]

    def interrupted(self) -> list[Heartbeat]:
        """The heartbeats of processes that are dead; their runs may have a record by now, from another process."""
        return [beat for beat in self._heartbeats.all() if not beat.alive]

    # -- files --------------------------------------------------------------------------------------------------------

    def _replace(self, path: Path, content: dict[str, Any], *, durable: bool = True) -> None:
        with self._writing(), replacing(path, self._scratch) as temporary:
            write_json(temporary, plain(content), durable=durable)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> StoreError:
        remedy = {errno.ENOSPC: "free some space", errno.EDQUOT: "free some of the quota"}
        return StoreError(
            f"could not write to results = {str(self.root)!r}: {error.strerror or error}; "
            f"{remedy.get(error.errno or 0, 'fix that')}, and the same command goes on from here"
        )

    def set_aside(self, path: Path, reason: str) -> None:
        """Move a damaged file or folder to `DIR/damaged`; `StoreError` if it cannot be moved."""
        aside = self.root / "damaged" / f"{path.parent.name}-{path.name}-{uuid.uuid4().hex[:6]}"
        try:
            aside.parent.mkdir(exist_ok=True)
            path.rename(aside)
        except FileNotFoundError:  # another process has moved it already
            return
        except OSError as error:
            raise StoreError(f"{path} {reason}; it cannot be moved away ({error.strerror}): remove it") from None
        self.tell(f"{path} {reason}; set aside as {aside}; it will be computed again")


def read_stage(folder: Path) -> Stage:
    """The stage result in a folder `KIND/KEY`.

    Returns:
        The result.

    Raises:
        DamagedError: it is not intact, or not the result of that kind and key.
        StoreError: a newer mmbench wrote it.
        OSError: it cannot be read.
    """
    content, kind = read(folder / "result.json"), folder.parent.name
    if newer := is_newer(content.get("version"), VERSION):
        raise StoreError(f"{folder} {newer}")
    key = key_of(kind, content["inputs"]) if content.keys() >= {"inputs", "values", "files"} else ""
    if (content.get("version"), content.get("kind"), key) != (VERSION, kind, folder.name):
        raise DamagedError("it is the result of other inputs or of another version, copied here")
    for name, sha256 in content["files"].items():
        check(folder / name, sha256)
    return Stage(kind, content["values"], folder)
