"""Remove what no sweep refers to, after showing it.

usage: mmbench clean [results=DIR] [forget=SWEEP] [yes=true]

Show the stored results and records that no sweep of the store refers to, files left by dead processes, and damaged
files; then ask, and remove them. With forget=SWEEP, that sweep and what only it refers to are removed, too (the files
in DIR/sweeps are named after the sweeps). With yes=true, do not ask.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.markup import escape
from rich.prompt import Confirm
from rich.table import Table

from mmbench import console, text
from mmbench.cli.compose import composed, own_keys, store_of, yes_or_no
from mmbench.errors import ConfigError, StoreError
from mmbench.store.files import is_unfinished, read_json
from mmbench.store.stages import STAGES
from mmbench.store.store import VERSION, Store, key_of
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
    kept, runs = _referred_to(store, [name for name in names if name != forget])
    if forget is not None:
        yield Waste(store.root / "sweeps" / f"{forget}.json", f"the sweep {forget}")
    for path in sorted((store.root / "stages").glob("*/*")):
        if (path.parent.name, path.name) not in kept:
            kind = path.parent.name
            yield Waste(path, STAGES[kind].results if kind in STAGES else kind)
    for path in sorted((store.root / "moments").glob("*")):
        if ("trained", path.name) not in kept:
            yield Waste(path, "notes of moments")
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


def _referred_to(store: Store, names: list[str]) -> tuple[set[tuple[str, str]], set[str]]:
    """Stages (kind and key) and runs that the sweeps refer to."""
    kept: set[tuple[str, str]] = set()
    runs: set[str] = set()
    for name in names:
        sweep = read_json(store.root / "sweeps" / f"{name}.json")
        if sweep is None:
            raise StoreError(
                f"the sweep {name} is damaged, so what it refers to is unknown; to remove it: "
                f"mmbench clean forget={name}"
            )
        runs |= sweep["runs"].keys()
        if sweep.get("store_version") != VERSION:
            continue  # its results cannot be used any more
        try:
            enter(sweep["folder"])
            for run_id, config in sweep["configs"].items():
                run = recreate(run_id, config)
                kept |= {(kind, key_of(kind, inputs)) for kind, inputs in run.stages}
        except (ConfigError, StoreError) as error:
            raise StoreError(
                f"what the sweep {name} refers to is unknown: {error}\nTo remove the sweep: mmbench clean forget={name}"
            ) from None
    return kept, runs


def _show(waste: list[Waste]) -> None:
    groups: defaultdict[str, list[Waste]] = defaultdict(list)
    for item in waste:
        groups[item.what].append(item)
    table = Table("no sweep refers to", "count", "MB", "example", box=None, padding=(0, 2, 0, 0))
    for what, items in groups.items():
        size = sum(item.size for item in items) / 1e6
        table.add_row(escape(what), str(len(items)), f"{size:.2f}", escape(items[0].path.name))
    console.out.print(table)
