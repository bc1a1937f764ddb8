"""Runs of some hundredths of a second, and what a store holds, for comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmbench.data.digits import Digits
from mmbench.expansions.net2wider import Net2Wider
from mmbench.expansions.zero_pad import ZeroPad
from mmbench.metrics.parameters import Parameters
from mmbench.metrics.sharpness import Sharpness
from mmbench.models.mlp import MLP
from mmbench.run import Run
from mmbench.store.files import read_json
from mmbench.store.store import Store, key_of, look
from mmbench.training.recipes import SGD

ARGUMENTS = ["model.hidden=[4]", "dataset.train_size=128", "training.steps=10", "training.warmup_steps=2"]
"""The same for the command line."""
SWEEP = [*ARGUMENTS, "metric=parameters,sharpness", "metric.images=64", "expansion=net2wider,zero_pad", "seed=0,1"]
"""Eight runs, six trainings."""


def tiny(seed: int = 0, **changes: Any) -> Run:
    parts = {
        "model": MLP(hidden=(4,)),
        "dataset": Digits(train_size=128),
        "expansion": Net2Wider(),
        "metric": Parameters(),
        "training": SGD(steps=10, warmup_steps=2),
        "seed": seed,
    }
    return Run(**{**parts, **changes})


def several(seeds: int = 2, steps: int = 10) -> list[Run]:
    return [
        tiny(seed, expansion=expansion, metric=metric, training=SGD(steps=steps, warmup_steps=2))
        for seed in range(seeds)
        for expansion in (Net2Wider(), ZeroPad())
        for metric in (Parameters(), Sharpness(images=64))
    ]


def opened(root: Path) -> Store:
    """A store; what it complains of fails the caller."""

    def tell(message: str) -> None:
        raise AssertionError(message)

    store = Store(root, tell)
    store.prepare()
    return store


def untimed(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if not name.endswith("seconds")}


def contents(root: Path) -> dict[str, Any]:
    """All that a store holds, apart from how long it took; an AssertionError for anything in it that is wrong."""
    found: dict[str, Any] = {}
    for path in (root / "records").glob("*"):
        entry = look(path)
        assert entry.record is not None, f"{path} {entry.reason}"
        found[f"record {path.stem}"] = untimed(entry.record)
    store = opened(root)
    for folder in (root / "stages").glob("*/*"):
        assert store.load(folder.parent.name, folder.name) is not None
        content = read_json(folder / "result.json")
        assert content is not None
        assert folder.name == key_of(content["kind"], content["inputs"])
        found[f"{content['kind']} {folder.name}"] = {**content, "values": untimed(content["values"])}
    return found


def finished(root: Path) -> dict[str, bytes]:
    """The bytes of every file that is finished."""
    paths = [*(root / "records").glob("*.json"), *(root / "stages").glob("*/*/*")]
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}
