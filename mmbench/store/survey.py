"""What a whole store holds: runs that were superseded, the stages behind a record, damage. Nothing is changed here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mmbench.errors import StoreError
from mmbench.store.files import DamagedError, canonical, read_json
from mmbench.store.stages import STAGES
from mmbench.store.store import VERSION, Store, key_of, look, read_stage


def superseded(sweeps: Iterable[dict[str, Any]]) -> set[str]:
    """The runs that a later sweep repeats under another id, since their data or mmbench have changed meanwhile.

    Two runs are the same point of a sweep if all their options and the folder in which they were started are equal.
    The id depends on the content of the data, too, so an id that is not the latest of any point is out of date.

    Args:
        sweeps: as of `Store.sweeps`, in the order of their starts.

    Returns:
        Run ids.
    """
    every: set[str] = set()
    latest: dict[tuple[str, str], str] = {}
    for sweep in sweeps:
        for run_id, config in sweep.get("configs", {}).items():
            every.add(run_id)
            latest[sweep.get("folder", ""), canonical(config)] = run_id
    return every - set(latest.values())


def stages_of(store: Store, record: dict[str, Any]) -> list[tuple[str, str]]:
    """The kind and key of every stage behind a record, also if its data have changed since.

    Args:
        store: holds the stages, whose inputs name those before them.
        record: a run's row.

    Returns:
        In the order of their computation. Of a run that has failed, those that come after the stage that failed and
        those that no stored stage names are left out.
    """
    named = {"base": record.get("base_id"), "reference": record.get("reference_id")}
    named |= {"score": record.get("score_id"), "trained": record.get("trained_id")}
    found = {(kind, key) for kind, key in named.items() if key}
    for kind in ("score", "trained"):
        stored = read_json(store.root / "stages" / kind / str(named[kind]) / "result.json")
        if stored is None:
            continue
        inputs = stored["inputs"]
        found.add(("expanded", key_of("expanded", inputs["expanded"])))
        if kind == "trained":
            repeats = range(1, record.get("repeats") or 1)
            found |= {(kind, key_of(kind, {**inputs, "repeat": repeat})) for repeat in repeats}
        elif "training" in inputs:
            at = {"expanded": inputs["expanded"], "training": inputs["training"], "after": inputs["metric"]["after"]}
            found.add(("snapshot", key_of("snapshot", at)))
    return sorted(found, key=lambda stage: (list(STAGES).index(stage[0]), stage[1]))


class Damage(NamedTuple):
    """A file or folder that is not as it was written."""

    path: Path
    reason: str
    """The end of a sentence that begins with the path."""


def check_all(store: Store, track: Callable[[list[Path]], Iterable[Path]] = iter) -> Iterator[Damage]:
    """Check every stage result, record and sweep against its checksum.

    What another version of mmbench wrote is left out.

    Args:
        store: what to check.
        track: wraps the list of paths, for a progress bar.

    Yields:
        What is damaged.
    """
    for path in track([path for part in ("stages/*/*", "records/*.json") for path in sorted(store.root.glob(part))]):
        if path.parent.name != "records":
            if reason := _wrong_stage(path):
                yield Damage(path, reason)
        elif (file := look(path)).state in ("damaged", "foreign"):
            yield Damage(path, file.reason)
    intact = store.named_sweeps()
    for path in sorted((store.root / "sweeps").glob("*.json")):
        if path.stem not in intact:
            yield Damage(path, "is damaged: it does not match its checksum or its name")


def _wrong_stage(folder: Path) -> str | None:
    try:
        read_stage(folder)
    except DamagedError as damage:
        content = read_json(folder / "result.json")
        if content is None or content.get("version") in (None, VERSION):
            return f"is damaged: {damage}"
    except StoreError:
        pass  # of a newer version
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return None
