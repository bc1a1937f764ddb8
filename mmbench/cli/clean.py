"""Remove what no sweep refers to, after showing it.

usage: mmbench clean [results=DIR] [forget=SWEEP] [yes=true]

Show the stored results and records that no sweep of the store refers to, files left by dead processes, damaged files,
and failed runs whose sweep was started again with other data; then ask, and remove them. With forget=SWEEP, that sweep
and what only it refers to are removed, too (mmbench list shows the names). With yes=true, do not ask.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rich.markup import escape
from rich.prompt import Confirm
from rich.table import Table

from mmbench import console, text
from mmbench.cli.compose import composed, own_keys, store_of, yes_or_no
from mmbench.errors import ConfigError, StoreError
from mmbench.launcher.overrides import command as quoted
from mmbench.store.files import is_unfinished
from mmbench.store.stages import STAGES
from mmbench.store.store import VERSION, Store, key_of, look
from mmbench.store.survey import stages_of, superseded
from mmbench.store.versions import is_newer
from mmbench.sweep import enter, recreate


def command(arguments: list[str]) -> None:
    """Clean a store."""
    own, rest = own_keys(arguments, "forget", "yes")
    clean(store_of(composed(rest)), own.get("forget"), yes_or_no(own, "yes"))


@dataclass(frozen=True)
class Waste:
    """A file or folder that can be removed, and what it is."""

    path: Path
    what: str

    @property
    def size(self) -> int:
        """The total size of its files in bytes."""
        files = self.path.rglob("*") if self.path.is_dir() and not self.path.is_symlink() else [self.path]
        return sum(file.lstat().st_size for file in files if not file.is_dir())

    def remove(self) -> None:
        """Delete it."""
        if self.path.is_dir() and not self.path.is_symlink():
            shutil.rmtree(self.path)
        else:
            self.path.unlink(missing_ok=True)


def clean(results: Path, forget: str | None, agreed: bool) -> None:
    """Show what no sweep refers to, ask, and remove it.

    Args:
        results: the store's folder.
        forget: the name of a sweep to remove, too.
        agreed: whether to remove without asking.

    Raises:
        ConfigError: there is no such sweep.
        StoreError: runs are active in the store, or what a sweep refers to is unknown.
    """
    store = Store(results, tell=console.warn)
    _check_idle(store)
    waste = list(find(store, forget))
    if not waste:
        console.say(f"Nothing to remove: a sweep refers to everything in {escape(str(results))}.")
        return
    _show(waste)
    if not agreed:
        if not console.out.is_terminal:
            console.say("Nothing was removed: add yes=true to remove this.")
            return
        if not Confirm.ask("Remove this for good?", console=console.out, default=False):
            return
        _check_idle(store)  # a run may have started meanwhile
    for item in waste:
        item.remove()
    console.say(f"Removed {len(waste)} files and folders.")


def _check_idle(store: Store) -> None:
    if running := store.running():
        raise StoreError(
            f"{text.count(len(running), 'run')} still active in {store.root}; wait for them or stop them, then clean"
        )


def find(store: Store, forget: str | None = None) -> Iterator[Waste]:
    """Find what no sweep refers to; with `forget`, also that sweep and what only it refers to.

    Yields:
        Files and folders that can be removed.

    Raises:
        ConfigError: there is no such sweep.
        StoreError: what a sweep refers to is unknown, since it is damaged or cannot be recreated.
    """
    names = [path.stem for path in sorted((store.root / "sweeps").glob("*.json"))]
    if forget is not None and forget not in names:
        raise ConfigError(f"forget = {forget!r} is not a sweep of this store (allowed: {', '.join(names) or 'none'})")
    kept, runs, moments, outdated = _referred_to(store, [name for name in names if name != forget])
    for name in outdated:
        yield Waste(store.root / "sweeps" / f"{name}.json", "superseded sweeps, of which nothing is done")
    if forget is not None:
        yield Waste(store.root / "sweeps" / f"{forget}.json", f"the sweep {forget}")
    for path in sorted((store.root / "stages").glob("*/*")):
        if (path.parent.name, path.name) not in kept:
            kind = path.parent.name
            yield Waste(path, STAGES[kind].results if kind in STAGES else kind)
    for path in sorted((store.root / "moments").glob("*")):
        if ("trained", path.name) not in kept:
            yield Waste(path, "notes of moments")
            continue
        for note in sorted(path.glob("*")):
            if (path.name, note.name) not in moments:
                yield Waste(note, "notes of moments")
    for path in sorted((store.root / "records").glob("*.json")):
        if path.stem not in runs:
            yield Waste(path, "records")
    for path in sorted((store.root / "running").glob("*.json")):
        yield Waste(path, "heartbeats of dead processes")
    for path in sorted((store.root / "damaged").glob("*")):
        yield Waste(path, "damaged files")
    for path in sorted((store.root / "tmp").glob("*")):
        if is_unfinished(path):
            yield Waste(path, "unfinished files of dead processes")


class _Kept(NamedTuple):
    """What the sweeps refer to."""

    stages: set[tuple[str, str]]
    """Kind and key."""
    runs: set[str]
    moments: set[tuple[str, str]]
    """The key of the training and the moment."""
    outdated: list[str]
    """Sweeps that refer to nothing any more: all of their runs were superseded, and none is done."""


def _referred_to(store: Store, names: list[str]) -> _Kept:
    """What the sweeps of these names refer to."""
    sweeps = store.named_sweeps()
    for name in names:
        if name not in sweeps:
            raise StoreError(
                f"the sweep {name} is damaged, so what it refers to is unknown; to remove it: "
                f"{_forgetting(store, name)}"
            )
        if newer := is_newer(sweeps[name].get("store_version"), VERSION):
            raise StoreError(f"the sweep {name} {newer}; so what it refers to is unknown")
    sweeps = {name: sweep for name, sweep in sweeps.items() if name in names}
    gone = superseded(sweeps.values())
    kept = _Kept(set(), set(), set(), [])
    for name, sweep in sweeps.items():
        records = {
            run_id: look(store.root / "records" / f"{run_id}.json").record for run_id in gone & sweep["runs"].keys()
        }
        done = {run_id: record for run_id, record in records.items() if record and record["status"] == "done"}
        if sweep["runs"] and records.keys() == sweep["runs"].keys() and not done:
            kept.outdated.append(name)
        kept.runs.update(sweep["runs"].keys() - (records.keys() - done.keys()))
        for run_id, record in done.items():  # their data are no longer there to recreate them
            kept.stages.update(stages_of(store, record))
            kept.moments.add((record["trained_id"], str(sweep["configs"][run_id]["metric"].get("after", 0))))
        if sweep.get("store_version") == VERSION:  # results of an older version cannot be used any more
            _keep(store, name, {**sweep, "configs": {k: v for k, v in sweep["configs"].items() if k not in gone}}, kept)
    return kept


def _keep(store: Store, name: str, sweep: dict[str, Any], kept: _Kept) -> None:
    """Add what the runs of a sweep refer to."""
    if not sweep["configs"]:
        return
    try:
        enter(sweep["folder"])
        for run_id, config in sweep["configs"].items():
            run = recreate(run_id, config)
            kept.stages.update((kind, key_of(kind, inputs)) for kind, inputs in run.stages)
            kept.moments.add((key_of("trained", run.trained_inputs()), str(run.metric.after)))
    except (ConfigError, StoreError) as error:
        raise StoreError(
            f"what the sweep {name} refers to is unknown: {error}\nTo remove the sweep: {_forgetting(store, name)}"
        ) from None


def _forgetting(store: Store, name: str) -> str:
    return quoted("clean", results=str(store.root), forget=name)


def _show(waste: list[Waste]) -> None:
    groups: defaultdict[str, list[Waste]] = defaultdict(list)
    for item in waste:
        groups[item.what].append(item)
    table = Table("no sweep refers to", "count", "MB", "example", box=None, padding=(0, 2, 0, 0))
    for what, items in groups.items():
        size = sum(item.size for item in items) / 1e6
        table.add_row(escape(what), str(len(items)), f"{size:.2f}", escape(items[0].path.name))
    console.out.print(table)
