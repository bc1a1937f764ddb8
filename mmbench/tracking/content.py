"""What a W&B run holds: one trained model, read from the records and stage results of a store. Uses no client."""

from __future__ import annotations

import itertools
import math
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load_file

from mmbench.store.files import digest, read_json
from mmbench.store.store import key_of, look

Key = tuple[str, int]
"""A trained model: its configuration and its seed, as in the records."""

CONFIG = (
    *("model", "dataset", "expansion", "training", "seed", "axis", "factor", "budget", "arm", "preserves", "device"),
    *("configuration", "base_configuration", "base_id", "mmbench_version", "torch_version", "timm_version"),
)
"""Columns of a record that say what the model is: the W&B run's config."""
MEASURED = (
    *("gain", "final_accuracy", "final_loss", "final_validation_accuracy", "final_train_loss", "base_accuracy"),
    *("base_loss", "base_validation_accuracy", "parameters", "base_parameters", "depth", "flops", "base_flops"),
    *("max_difference", "train_steps", "train_seconds", "base_seconds", "expand_seconds"),
)
"""Columns with its results: the W&B run's summary, beside the scores."""
POINTS = 100
"""Points of a curve: each is the mean loss of an equal share of the steps."""
LONGEST = 2000
"""Characters of a text; W&B needs values below 1 MB."""
TAG = 64
"""The most characters that W&B takes in a tag."""


@dataclass(frozen=True)
class Content:
    """A whole W&B run. If it has grown, it is logged again under the same id, which replaces it."""

    id: str
    """A hash of its subject, so that it is logged once."""
    name: str
    job_type: str
    tags: list[str]
    config: dict[str, Any]
    summary: dict[str, Any]
    history: list[dict[str, float]] = field(default_factory=list)
    failed: bool = False

    @property
    def digest(self) -> str:
        """A hash of all its content, to see whether it has grown."""
        return digest([self.id, self.name, self.tags, self.config, self.summary, self.history, self.failed])


def key_of_model(record: Mapping[str, Any]) -> Key:
    """The model of a record, or of `Run.identity()`."""
    return str(record["configuration"]), int(record["seed"])


class Models:
    """The trained models of a store; each `look` reads only what is new."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.records: defaultdict[Key, dict[str, dict[str, Any]]] = defaultdict(dict)
        self._read: dict[str, tuple[int, int]] = {}
        self._stages: set[str] = set()
        self._trained: dict[Key, tuple[Path, dict[str, Any]]] = {}
        self._sweeps: dict[str, str] = {}

    def look(self) -> list[Key]:
        """Read what is new; returns all models, in the order in which they were read."""
        for entry in sorted(os.scandir(self.root / "records"), key=lambda entry: entry.name):
            state = entry.stat()
            if self._read.get(entry.name) != (state.st_mtime_ns, state.st_ino):
                self._read[entry.name] = (state.st_mtime_ns, state.st_ino)
                record = look(Path(entry.path)).record
                if record is not None and record["status"] != "skipped":
                    self.records[key_of_model(record)][record["run_id"]] = record
        folder = self.root / "stages" / "trained"
        for name in sorted({path.name for path in folder.glob("*")} - self._stages):
            self._stages.add(name)
            inputs = (read_json(folder / name / "result.json") or {}).get("inputs") or {}
            if key := _key_of_inputs(inputs):
                self._trained[key] = folder / name, inputs
        return list(self.records)

    def content(self, key: Key, tags: Iterable[str] = ()) -> Content:
        """The W&B run of one model, from all of its records."""
        records = [self.records[key][run_id] for run_id in sorted(self.records[key])]
        best = max(records, key=lambda record: record["status"] == "done")
        folder, inputs = self._trained.get(key, (None, {}))
        config = {name: _plain(best.get(name)) for name in CONFIG} | {"options": _options(inputs)}
        budget = f" {best['budget']:g}x" if best.get("budget") else ""
        return Content(
            id=digest(["model", *key])[:16],
            name=f"{best['model']} {best['dataset']} {best['expansion']}{budget} seed {best['seed']}"[:128],
            job_type="train",
            tags=[_tag(tag) for tag in dict.fromkeys([best["model"], best["dataset"], best["expansion"], *tags])],
            config=config,
            summary={name: value for name in MEASURED if (value := _plain(best.get(name))) is not None}
            | scores(records),
            history=_history(self.root, folder, inputs),
            failed=best["status"] != "done",
        )

    def sweep(self, key: Key) -> str | None:
        """The name of a sweep with the model."""
        if not self._sweeps:
            for path in sorted((self.root / "sweeps").glob("*.json")):
                runs = (read_json(path) or {}).get("runs")
                self._sweeps |= dict.fromkeys(runs if isinstance(runs, dict) else {}, path.stem)
        return next((self._sweeps[run_id] for run_id in sorted(self.records[key]) if run_id in self._sweeps), None)


def scores(records: list[dict[str, Any]]) -> dict[str, Any]:
    """The metrics of one model.

    Args:
        records: all records of the model.

    Returns:
        `score/NAME` with its standard error and seconds, and `error/NAME` where a metric failed. If a metric has
        several definitions, each is named `NAME-ID`, and `definition/NAME-ID` says what it is.
    """
    ids: defaultdict[str, set[str]] = defaultdict(set)
    for record in records:
        ids[record["metric"]].add(record["metric_id"])
    values: dict[str, Any] = {}
    for record in sorted(records, key=lambda record: (record["metric"], record["metric_id"])):
        several = len(ids[record["metric"]]) > 1
        name = record["metric"] + (f"-{record['metric_id'][:6]}" if several else "")
        if several:
            values[f"definition/{name}"] = _plain(record["definition"])
        if record["status"] != "done":
            values[f"error/{name}"] = _plain(record["error"])
        for column, end in (("score", ""), ("score_stderr", "/stderr"), ("metric_seconds", "/seconds")):
            if (value := _plain(record.get(column))) is not None:
                values[f"score/{name}{end}"] = value
    return values


def _options(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Model, data set, expansion and training with all options, from a stage's inputs."""
    expanded = inputs.get("expanded") or {}
    base = expanded.get("base") or {}
    parts = {"model": base.get("model"), "dataset": base.get("dataset"), "expansion": expanded.get("expansion")}
    parts |= {"training": inputs.get("training")}
    return {name: _flat(part) for name, part in parts.items() if isinstance(part, dict)}


def _flat(part: Mapping[str, Any]) -> dict[str, Any]:
    """Options one level deep, since W&B nests at most three: deeper values become text."""
    return {name: _plain(value if isinstance(value, str | int | float) else str(value)) for name, value in part.items()}


def _plain(value: Any) -> Any:
    """A value that W&B accepts: no NaN, no long text."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if not isinstance(value, str) or len(value) <= LONGEST else f"{value[:LONGEST]}..."


def _tag(tag: str) -> str:
    return tag if len(tag) <= TAG else f"{tag[: TAG - 3]}..."


def _key_of_inputs(inputs: Mapping[str, Any]) -> Key | None:
    """The model of the inputs of a `trained` stage."""
    try:
        expanded = inputs["expanded"]
        base = expanded["base"]
        without_seed = {"base": {**base, "seed": None}, "expansion": expanded["expansion"]}
        return key_of("configuration", without_seed), int(base["seed"])
    except (KeyError, TypeError):
        return None


def _history(root: Path, folder: Path | None, inputs: Mapping[str, Any]) -> list[dict[str, float]]:
    """The training losses of the expanded and of the base model, by step."""
    if folder is None:
        return []
    base = root / "stages" / "base" / key_of("base", inputs["expanded"]["base"])
    rows: defaultdict[float, dict[str, float]] = defaultdict(dict)
    for name, losses in (("loss/expanded", losses_of(folder)), ("loss/base", losses_of(base))):
        for step, loss in zip(*thinned(losses), strict=True):
            rows[step][name] = loss
    return [{"step": step, **rows[step]} for step in sorted(rows)]


def losses_of(folder: Path) -> list[float]:
    """The loss at each step of a training; empty if it is not stored."""
    try:
        return [float(loss) for loss in load_file(folder / "history.safetensors")["losses"]]
    except (OSError, KeyError, SafetensorError):
        return []


def thinned(losses: list[float]) -> tuple[list[float], list[float]]:
    """The last step of each of `POINTS` equal shares of the steps, and the mean loss of the share."""
    count = len(losses)
    edges = sorted({round(count * i / min(POINTS, count)) for i in range(min(POINTS, count) + 1)}) if count else [0]
    shares = [losses[first:last] for first, last in itertools.pairwise(edges)]
    return [float(edge) for edge in edges[1:]], [sum(share) / len(share) for share in shares]
