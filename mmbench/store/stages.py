"""The stages of a run: their descriptions for people, and a stored result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

Tensors = Mapping[str, Any]
"""Torch tensors by name; torch itself is loaded only when tensors are read or written."""


class Description(NamedTuple):
    """A stage in words."""

    results: str
    """Its results, after a number."""
    doing: str
    """What a process that computes it is doing."""
    short: str
    """The same in one or two words: the live display may be narrow."""


STAGES = {
    "base": Description("base models trained", "training the base model", "training"),
    "reference": Description("base models measured", "measuring the base model", "measuring base"),
    "expanded": Description("expansions", "expanding the base model", "expanding"),
    "snapshot": Description("snapshots", "training the expanded model up to a moment", "training to moment"),
    "score": Description("scores", "measuring the expanded model", "measuring"),
    "trained": Description("expanded models trained", "training the expanded model", "training expanded"),
}
"""In the order in which they are computed; `Run.stages` holds the inputs of each."""
OPTIONAL = ("reference", "snapshot")
"""Stages that only some metrics and moments need."""


def computed(counts: Counter[str]) -> str:
    """`3 base models trained, 24 scores`; a stage that was computed zero times is left out."""
    parts = [f"{counts[kind]:,} {stage.results}" for kind, stage in STAGES.items() if counts[kind]]
    return ", ".join(parts) or "nothing"


def doing(kind: str) -> str:
    """What a process that computes this stage is doing; the name itself, if another version of mmbench wrote it."""
    return STAGES[kind].doing if kind in STAGES else kind


@dataclass(frozen=True)
class Stage:
    """A stored stage result."""

    kind: str
    values: dict[str, Any]
    folder: Path

    def tensors(self, name: str) -> Tensors:
        """The tensors stored as `name`."""
        from safetensors.torch import load_file

        return load_file(self.folder / f"{name}.safetensors")
