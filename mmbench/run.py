"""A run: one point of a sweep, and what each of its stages depends on. It is computed in execute.py.

A stage is a function of exactly the inputs that it names, and its result is stored under a hash of exactly those
inputs: the base model does not depend on the metric, so forty metrics share one training.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from mmbench.data.base import Dataset, InputShape
from mmbench.errors import DivergedError, ScoreError, UndefinedError
from mmbench.expansions.base import Expansion, Target
from mmbench.metrics.base import Metric
from mmbench.models.base import Architecture
from mmbench.models.flops import flops
from mmbench.store.moments import note_moment
from mmbench.store.store import Store, key_of
from mmbench.training.moments import steps_until
from mmbench.training.recipes import Training


@dataclass(frozen=True)
class Run:
    """One point of a sweep."""

    model: Architecture
    dataset: Dataset
    expansion: Expansion
    metric: Metric
    training: Training
    seed: int

    # What each stage depends on. A stage's inputs contain those of the stage before it, so its hash covers both.

    @cached_property
    def base_inputs(self) -> dict[str, Any]:
        """Inputs of the base model's training."""
        return {
            "model": self.model.describe(),
            "dataset": self.dataset.fingerprint(),
            "training": self.training.describe(),
            "seed": self.seed,
        }

    @cached_property
    def expanded_inputs(self) -> dict[str, Any]:
        """Inputs of the expansion."""
        return {"base": self.base_inputs, "expansion": self.expansion.describe()}

    @cached_property
    def reference_inputs(self) -> dict[str, Any]:
        """Inputs of what the metric measures on the base model."""
        return {"base": self.base_inputs, "metric": self.metric.reference_options()}

    @cached_property
    def score_inputs(self) -> dict[str, Any]:
        """Inputs of the metric. At a later moment they include the training."""
        metric = {"metric": self.metric.describe()}
        return (
            {"expanded": self.expanded_inputs, **metric}
            if not self.metric.after
            else {**self.trained_inputs(), **metric}
        )

    def trained_inputs(self, repeat: int = 0) -> dict[str, Any]:
        """Inputs of the expanded model's training, of which there may be several."""
        again = {"repeat": repeat} if repeat else {}
        return {"expanded": self.expanded_inputs, "training": self.training.describe(), **again}

    @cached_property
    def snapshot_inputs(self) -> dict[str, Any]:
        """Inputs of the expanded model at the metric's moment."""
        return self.snapshot_at(self.metric.after)

    def snapshot_at(self, moment: int | str) -> dict[str, Any]:
        """Inputs of the expanded model at any moment of its training."""
        return {**self.trained_inputs(), "after": moment}

    @property
    def stages(self) -> list[tuple[str, dict[str, Any]]]:
        """The kind and the inputs of every stage."""
        return [
            ("base", self.base_inputs),
            *([("reference", self.reference_inputs)] if self.metric.compares else []),
            ("expanded", self.expanded_inputs),
            *([("snapshot", self.snapshot_inputs)] if self.metric.after else []),
            ("score", self.score_inputs),
            *(("trained", self.trained_inputs(repeat)) for repeat in range(self.training.repeats)),
        ]

    @cached_property
    def run_id(self) -> str:
        """The id of the record."""
        repeats = {"repeats": self.training.repeats} if self.training.repeats > 1 else {}
        return key_of("run", {**self.score_inputs, **self.trained_inputs(), **repeats})

    @property
    def config(self) -> dict[str, Any]:
        """The run as plain JSON data with every option written out; `config.parse` recreates the run from it."""
        parts = ("model", "dataset", "expansion", "metric", "training")
        return {**{part: getattr(self, part).options() for part in parts}, "seed": self.seed}

    @property
    def label(self) -> str:
        """The run in a few words."""
        return (
            f"{self.model.name} {self.dataset.title} {self.expansion.label} {self.metric.name} "
            f"{self.training.name} seed {self.seed}"
        )

    def target(self) -> Target:
        """The target of the expansion; `UndefinedError` if the combination is undefined. Loads no data."""
        target = _target(self.model, self.expansion, self.dataset.shape())
        if isinstance(target, str):
            raise UndefinedError(target)
        if wrong := self._unreachable(target) or _refused(self.metric, self.model, target, self.dataset.shape()):
            raise UndefinedError(wrong)
        return target

    def _unreachable(self, target: Target) -> str:
        """Why the metric's moment cannot come, as far as it is known before the data are loaded; else empty."""
        after, images = self.metric.after, getattr(self.dataset, "train_size", None)
        if not after:
            return ""
        if images is None:  # only the data know how many steps an epoch has
            if self.training.epochs is None or isinstance(after, int) or _of_another_length(self.expansion):
                return ""
            steps, length, unit = steps_until(after, 1), self.training.epochs, "epochs"
        else:
            shape = self.dataset.shape()
            costs = flops(self.model, shape), flops(target.architecture, shape)
            steps, unit = steps_until(after, self.training.epoch_steps(images)), "steps"
            length = self.expansion.training_steps(self.training.in_steps(images).steps, *costs)
        return f"metric.after = {after} is after the end of the training, which takes {length} {unit}" * (
            steps > length
        )

    def identity(self) -> dict[str, Any]:
        """The columns that are known before anything is computed."""
        without_seed = {**self.base_inputs, "seed": None}
        return {
            "run_id": self.run_id,
            "model": self.model.name,
            "dataset": self.dataset.title,
            "expansion": self.expansion.name,
            "arm": self.expansion.arm,
            "preserves": self.expansion.preserves,
            "training": self.training.name,
            "seed": self.seed,
            "metric": self.metric.name,
            "expected_sign": self.metric.expected_sign,
            "definition": self.metric.definition,
            "metric_id": key_of("metric", self.metric.describe()),
            "configuration": key_of("configuration", {"base": without_seed, "expansion": self.expansion.describe()}),
            "base_configuration": key_of("base_configuration", without_seed),
            "base_id": key_of("base", self.base_inputs),
            "reference_id": key_of("reference", self.reference_inputs) if self.metric.compares else None,
            "score_id": key_of("score", self.score_inputs),
            "trained_id": key_of("trained", self.trained_inputs()),
        }


@lru_cache(maxsize=4096)
def _target(model: Architecture, expansion: Expansion, shape: InputShape) -> Target | str:
    """The target, or why it is undefined. Cached, since solving for a budget is the slowest part of planning."""
    try:
        model.table(shape)
        return expansion.target(model, shape)
    except UndefinedError as error:
        return str(error)


@lru_cache(maxsize=4096)
def _refused(metric: Metric, model: Architecture, target: Target, shape: InputShape) -> str:
    """Why the metric is not defined for the networks, as far as their tables tell; else empty."""
    try:
        metric.check_tables(model.table(shape), target.architecture.table(shape))
    except UndefinedError as error:
        return str(error)
    return ""


def _of_another_length(expansion: Expansion) -> bool:
    """Whether the expanded model's training may be longer than the base model's."""
    return type(expansion).training_steps is not Expansion.training_steps


def is_final(record: dict[str, Any]) -> bool:
    """Whether the run of a stored record is not tried again: it is done, or would fail in the same way."""
    # Skipped is not final: options that are not inputs of the stages (a tolerance) may have changed.
    return record["status"] == "done" or record.get("error_type") in (DivergedError.__name__, ScoreError.__name__)


def sizes(run: Run, target: Target) -> dict[str, Any]:
    """The columns that say how large base and expanded model are."""
    shape = run.dataset.shape()
    base, large = run.model.parameters(shape), target.architecture.parameters(shape)
    return {
        "parameters": large,
        "base_parameters": base,
        "budget": run.expansion.asked_for(run.model, shape) or round(large / base, 2),
        "depth": target.architecture.depth(),
        "flops": flops(target.architecture, shape),
        "base_flops": flops(run.model, shape),
    }


def note_moments(store: Store, runs: Iterable[Run]) -> None:
    """Note in the store at which moments the runs will need their expanded models, before any of them is trained."""
    for run in runs:
        if run.metric.after:
            note_moment(store.root, key_of("trained", run.trained_inputs()), run.metric.after)
