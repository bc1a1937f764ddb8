"""What the store keeps beside the records: the options of every component, and the losses of every training."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load_file

from mmbench.records.barriers import read_barriers
from mmbench.records.gains import GainCurve, read_gains
from mmbench.statistics.configurations import at_start, prepare
from mmbench.statistics.manifold_grid import Barriers, Grid, grid_of
from mmbench.store.files import read_json
from mmbench.store.store import key_of

POINTS = 60
"""Points of a curve: each is the mean loss of an equal share of the steps."""
READ = 600
"""At most this many stage results of each kind and store are read, however large the store."""
PARTS = ("model", "dataset", "expansion", "training", "metric")


@dataclass(frozen=True)
class Curve:
    """The loss of one training, thinned."""

    dataset: str
    model: str
    operator: str
    """The expansion's name; empty for a base model."""
    steps: tuple[float, ...]
    losses: tuple[float, ...]


@dataclass
class Traces:
    """What the stage results of some stores hold."""

    curves: list[Curve] = field(default_factory=list)
    settings: dict[str, list[str]] = field(default_factory=lambda: {part: [] for part in PARTS})
    """Each distinct model, dataset, ... with all its options, as JSON text, sorted."""
    left_out: int = 0
    """Stage results that were not read, because there are too many."""
    gains: list[GainCurve] = field(default_factory=list)
    """The gain in validation accuracy along each training."""
    barriers: dict[str, Barriers] = field(default_factory=dict)
    """The manifold metric's barriers by the id of the run."""
    grid: Grid = field(default_factory=Grid)
    """The manifold metric over its quantiles and numbers of nodes."""


def read_traces(stores: Sequence[str | os.PathLike[str]], frame: pd.DataFrame) -> Traces:
    """The curves and settings of the stores' stage results; damaged and foreign files are skipped.

    At most `READ` results of each kind and store are read: the first by key, which is a hash, so that the sample is
    random and the same each time.

    Args:
        stores: results folders.
        frame: their records, as of `load_records`; the curves take the names of data sets and models from it.

    Returns:
        Curves and settings; empty where the stores have none.
    """
    traces, names = Traces(), _titles(frame)
    settings: dict[str, set[str]] = {part: set() for part in PARTS}
    for store in stores:
        for kind in ("base", "trained", "score"):
            folders = sorted((Path(store) / "stages" / kind).glob("*/result.json"))
            traces.left_out += max(0, len(folders) - READ)
            for path in folders[:READ]:
                content = read_json(path)
                if content is None:
                    continue
                parts = _parts(content.get("inputs"))
                for part in PARTS:
                    if part in parts:
                        settings[part].add(json.dumps(parts[part], sort_keys=True, ensure_ascii=False))
                traces.curves += _history(path.parent, parts, names)
    traces.gains, traces.barriers = read_gains(frame), read_barriers(frame)
    if traces.barriers:
        traces.grid = grid_of(at_start(prepare(frame)), traces.barriers)
    traces.settings = {part: sorted(texts) for part, texts in settings.items()}
    return traces


def _parts(inputs: Any) -> dict[str, Any]:
    """A stage's nested inputs as one flat level: model, dataset, training, expansion, metric."""
    flat: dict[str, Any] = {}
    while isinstance(inputs, dict):
        flat = {**inputs, **flat}
        inputs = inputs.get("expanded") or inputs.get("base")
    return flat


def _titles(frame: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Data set and model, as the records call them, of each base model."""
    columns = ["base_id", "dataset", "model"]
    if not set(columns) <= set(frame.columns):
        return {}
    rows = frame[columns].dropna().drop_duplicates("base_id")
    return {str(base): (str(dataset), str(model)) for base, dataset, model in rows.itertuples(index=False)}


def _history(folder: Path, parts: dict[str, Any], titles: dict[str, tuple[str, str]]) -> Iterator[Curve]:
    try:
        losses = load_file(folder / "history.safetensors")["losses"].astype(float)
    except (OSError, KeyError, SafetensorError):
        return
    base = key_of("base", {part: parts.get(part) for part in ("model", "dataset", "training", "seed")})
    dataset, model = titles.get(base, (_name(parts.get("dataset")), _name(parts.get("model"))))
    curve = thinned(losses)
    if curve is not None:
        yield Curve(dataset, model, _name(parts.get("expansion")), *curve)


def _name(part: Any) -> str:
    return str(part.get("name", "")) if isinstance(part, dict) else ""


def thinned(losses: np.ndarray[Any, Any]) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Steps and means over `POINTS` equal shares of the steps; None if there is nothing finite to draw."""
    if losses.ndim != 1 or not losses.size or not np.isfinite(losses).all():
        return None
    edges = np.unique(np.linspace(0, len(losses), min(POINTS, len(losses)) + 1).round().astype(int))
    means = np.add.reduceat(losses, edges[:-1]) / np.diff(edges)
    centres = (edges[:-1] + edges[1:]) / 2
    return tuple(centres.tolist()), tuple(means.tolist())
