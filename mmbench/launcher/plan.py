"""What a sweep would do: counts, skipped combinations, cost. Starts nothing."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from mmbench.config import Settings
from mmbench.errors import UndefinedError
from mmbench.run import Run, is_final
from mmbench.store.files import read_json
from mmbench.store.store import Store, key_of, look

MEASURED = ("reference", "score")
"""Stages whose cost depends on the metric."""


@dataclass(frozen=True)
class StagePlan:
    """The results of one stage that a sweep needs."""

    distinct: int
    """Number of different results."""
    missing: int
    """Those that are not stored."""
    seconds: float
    """Estimated time of the missing ones on one CPU thread, from the times of similar results in the store."""
    untimed: int
    """Missing ones without similar results in the store."""
    untimed_steps: int
    """Training steps of these."""


@dataclass(frozen=True)
class Plan:
    """What a sweep would do."""

    runs: int
    recorded: int
    """Runs that have their final record."""
    skipped: Counter[str]
    """Number of runs by undefined combination and the reason."""
    stages: dict[str, StagePlan]
    """By kind; one that no run needs is left out."""
    damaged: int
    """Results that are there but cannot be used, as far as can be told without reading their tensors."""


def plan(runs: list[Run], settings: Settings) -> Plan:
    """The plan of a sweep over a store, which is only read."""
    store = Store(Path(settings.results))
    skipped: Counter[str] = Counter()
    wanted: defaultdict[str, dict[str, Run]] = defaultdict(dict)
    """By kind the keys of the stages, each with a run that needs it."""
    recorded = 0
    for run in runs:
        try:
            run.target()
        except UndefinedError as reason:
            skipped[f"{run.model.name} x {run.expansion.name}: {reason}"] += 1
            continue
        record = look(store.root / "records" / f"{run.run_id}.json").record
        recorded += record is not None and is_final(record)
        for kind, inputs in run.stages:
            wanted[kind].setdefault(key_of(kind, inputs), run)
    known, intact = _stored(store)
    stages = {kind: _stage(kind, needed, intact, known) for kind, needed in wanted.items()}
    there = {(kind, key) for kind, needed in wanted.items() for key in needed if store.has_key(kind, key)}
    return Plan(len(runs), recorded, skipped, stages, len(there - intact))


def _stage(
    kind: str, needed: dict[str, Run], intact: set[tuple[str, str]], known: dict[tuple[str, str, str], float]
) -> StagePlan:
    missing = [run for key, run in needed.items() if (kind, key) not in intact]
    if kind == "snapshot":  # left by the trainings of the same runs, at no further cost
        return StagePlan(len(needed), len(missing), 0.0, 0, 0)
    keys = [(kind, run.model.name, run.metric.name if kind in MEASURED else "") for run in missing]
    untimed = [run for run, key in zip(missing, keys, strict=True) if key not in known]
    seconds = sum(known.get(key, 0.0) for key in keys)
    return StagePlan(len(needed), len(missing), seconds, len(untimed), sum(_steps(run) for run in untimed))


def _steps(run: Run) -> int:
    """The length of a training; 0 if it is in epochs of a number of images that only the data know."""
    size = getattr(run.dataset, "train_size", None)
    if run.training.epochs is None:
        return run.training.steps
    return 0 if size is None else run.training.in_steps(size).steps


def _stored(store: Store) -> tuple[dict[tuple[str, str, str], float], set[tuple[str, str]]]:
    """Median seconds of the stored results by stage, model family and (for scores) metric, and what can be used."""
    # Only the values are checked, and whether the files are there; `mmbench verify` reads them all.
    seconds: defaultdict[tuple[str, str, str], list[float]] = defaultdict(list)
    intact = set()
    for path in (store.root / "stages").glob("*/*/result.json"):
        content, folder = read_json(path), path.parent
        if content is None or not all((folder / name).is_file() for name in content.get("files", [""])):
            continue
        intact.add((folder.parent.name, folder.name))
        if content["values"].get("seconds"):
            model, metric = _model_and_metric(content["inputs"])
            seconds[content["kind"], model, metric].append(content["values"]["seconds"])
    return {key: median(values) for key, values in seconds.items()}, intact


def _model_and_metric(inputs: dict[str, Any]) -> tuple[str, str]:
    base = inputs
    while "model" not in base:
        base = base["expanded"] if "expanded" in base else base["base"]
    return base["model"]["name"], inputs.get("metric", {}).get("name", "")
