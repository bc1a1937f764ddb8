"""One run: train the base model, expand it, measure the expanded model, train it, and store the record.

Four stages, one after the other. Each is a function of exactly the inputs that it names, and its result is stored under
a hash of exactly those inputs: the base model does not depend on the metric, so forty metrics share one training.
"""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache, partial
from typing import Any

import torch
from torch import nn

from mmbench.data.base import Data, Dataset, InputShape, Progress, silent
from mmbench.errors import BusyError, DataError, DivergedError, MmbenchError, ScoreError, StoreError, UndefinedError
from mmbench.expansions.apply import Expander
from mmbench.expansions.base import Expansion, Target
from mmbench.metrics.base import Metric, score
from mmbench.metrics.subject import Subject
from mmbench.models.base import Architecture
from mmbench.models.flops import flops
from mmbench.models.skeleton import skeleton
from mmbench.store.stages import STAGES
from mmbench.store.store import Computed, Stage, Store, key_of, seed_of
from mmbench.store.versions import versions
from mmbench.training.loop import evaluate, train
from mmbench.training.recipes import Training

_SUBJECTS: dict[str, Subject] = {}
"""The last expanded model that was measured in this process."""
Notify = Callable[[str], None]
"""Receives the name of a stage that is about to be computed."""


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
    def score_inputs(self) -> dict[str, Any]:
        """Inputs of the metric."""
        return {"expanded": self.expanded_inputs, "metric": self.metric.describe()}

    @cached_property
    def trained_inputs(self) -> dict[str, Any]:
        """Inputs of the expanded model's training."""
        return {"expanded": self.expanded_inputs, "training": self.training.describe()}

    @property
    def stages(self) -> dict[str, dict[str, Any]]:
        """The stages in order, with their inputs."""
        return {kind: getattr(self, f"{kind}_inputs") for kind in STAGES}

    @cached_property
    def run_id(self) -> str:
        """The id of the record."""
        return key_of("run", {**self.score_inputs, **self.trained_inputs})

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
        return target

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
        }


@lru_cache(maxsize=4096)
def _target(model: Architecture, expansion: Expansion, shape: InputShape) -> Target | str:
    """The target, or why it is undefined. Cached, since solving for a budget is the slowest part of planning."""
    try:
        model.table(shape)
        return expansion.target(model, shape)
    except UndefinedError as error:
        return str(error)


def execute(
    run: Run,
    store: Store,
    device: str = "cpu",
    progress: Progress[Any] = silent,
    notify: Notify = lambda stage: None,
    *,
    wait: bool = True,
) -> dict[str, Any]:
    """The run's record: the stored one if it `is_final`, else a new one, which is stored.

    A failure does not raise: it gives a record with status `failed`, the reason, and the columns of the stages that
    succeeded. An undefined combination gives a record with status `skipped`.

    Args:
        run: what to execute.
        store: where its stages and its record are stored.
        device: such as `cpu` or `cuda:0`.
        progress: shows the progress of loading the data.
        notify: receives the name of each stage that is about to be computed.
        wait: whether to wait for a stage that another process is computing.

    Returns:
        The record: columns and their values.

    Raises:
        StoreError: the store cannot be read or written. Every run would fail in the same way, so no record is written.
            Finished stages are stored; once the cause is fixed, the same call continues from there.
        BusyError: another process is computing a stage of this run, and `wait` is false; nothing is recorded.
    """
    stored = store.read_record(run.run_id)
    if stored is not None and is_final(stored):
        return stored
    try:
        return store.write_record(_record(run, _Stages(run, store, device, progress, notify, wait)))
    finally:
        store.remove_heartbeat(run.run_id)


def train_base(run: Run, store: Store, device: str) -> None:
    """Train the run's base model if it is not stored. Errors other than those below are left to the runs that need it.

    Args:
        run: the run whose base model is trained.
        store: where it is stored.
        device: such as `cpu` or `cuda:0`.

    Raises:
        StoreError: as for `execute`.
        BusyError: another process is training it.
    """
    stages = _Stages(run, store, device, silent, lambda stage: None, wait=False)
    try:
        stages.base()
    except (StoreError, BusyError):
        raise
    except Exception:
        return  # the runs that need the base model will raise it again
    finally:
        store.remove_heartbeat(run.run_id)


def _record(run: Run, stages: _Stages) -> dict[str, Any]:
    record: dict[str, Any] = {**run.identity(), "status": "done", "error": None, "device": stages.device, **versions()}
    try:
        target = run.target()
        record |= {"axis": target.axis, "factor": target.factor, **_sizes(run, target)}
        for columns in stages.run():
            record |= columns
    except (StoreError, BusyError):
        raise
    except UndefinedError as error:
        record |= {"status": "skipped", "error": str(error)}
    except MmbenchError as error:
        record |= {"status": "failed", "error": str(error), "error_type": type(error).__name__}
    except Exception as error:
        record |= {"status": "failed", "error": f"{type(error).__name__}: {error}", "error_type": type(error).__name__}
        record["traceback"] = traceback.format_exc()
    return record


def is_final(record: dict[str, Any]) -> bool:
    """Whether the run of a stored record is not tried again: it is done, or would fail in the same way."""
    # Skipped is not final: options that are not inputs of the stages (a tolerance) may have changed.
    return record["status"] == "done" or record.get("error_type") in (DivergedError.__name__, ScoreError.__name__)


def _sizes(run: Run, target: Target) -> dict[str, Any]:
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


class _Stages:
    """The four stages of a run, computed where they are not stored."""

    def __init__(
        self, run: Run, store: Store, device: str, progress: Progress[Any], notify: Notify, wait: bool
    ) -> None:
        self.r, self.store, self.device, self.notify, self.progress = run, store, device, notify, progress
        self.wait = wait

    def run(self) -> Iterator[dict[str, Any]]:
        """Yield the columns of each stage, computed one after the other."""
        base = self.base()
        yield {f"base_{k}": base.values[k] for k in ("accuracy", "loss", "validation_accuracy", "seconds")}
        expanded = self._stage("expanded", self.r.expanded_inputs, lambda: self._expand(base))
        yield {"max_difference": expanded.values["max_difference"], "expand_seconds": expanded.values["seconds"]}
        scored = self._stage("score", self.r.score_inputs, lambda: self._measure(base, expanded))
        yield {
            "score": scored.values["value"],
            "score_stderr": scored.values["stderr"],
            "metric_seconds": scored.values["seconds"],
            **{f"{self.r.metric.name}_{k}": v for k, v in scored.values["details"].items()},
        }
        trained = self._stage("trained", self.r.trained_inputs, lambda: self._train_expanded(expanded))
        final = trained.values
        yield {
            "final_accuracy": final["accuracy"],
            "final_loss": final["loss"],
            "final_validation_accuracy": final["validation_accuracy"],
            "final_train_loss": final["train_loss"],
            "gain": final["accuracy"] - base.values["accuracy"],
            "train_steps": self._recipe.steps,
            "train_seconds": final["seconds"],
        }

    def base(self) -> Stage:
        """The base model, trained."""
        return self._stage("base", self.r.base_inputs, self._train_base)

    def _stage(self, kind: str, inputs: dict[str, Any], compute: Callable[[], Computed]) -> Stage:
        def announced() -> Computed:
            self.notify(kind)
            self.store.write_heartbeat(self.r.run_id, kind)
            try:
                return compute()
            except DivergedError as error:
                return {"diverged": {"step": error.step, "loss": str(error.loss)}}, {}

        stage = self.store.stage(kind, inputs, announced, wait=self.wait)
        if "diverged" in stage.values:
            raise DivergedError(stage.values["diverged"]["step"], float(stage.values["diverged"]["loss"]))
        return stage

    @cached_property
    def data(self) -> Data:
        return load_data(self.r.dataset, self.device, self.progress)

    def _network(self, architecture: Architecture, stage: Stage) -> nn.Module:
        model = skeleton(architecture, self.data.shape)
        model.load_state_dict(stage.tensors("weights"), strict=True, assign=True)
        return model.to(self.device)

    def _train_base(self) -> Computed:
        seed = seed_of("base", self.r.base_inputs)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = self.r.model.build(self.data.shape)
        return self._train(model.to(self.device), self.r.training, seed_of("base order", self._order))

    def _expand(self, base: Stage) -> Computed:
        small = self._network(self.r.model, base).eval()
        start = time.perf_counter()
        large = self._expander(small, 0)(small)
        seconds = time.perf_counter() - start
        with torch.no_grad():
            images = self.data.validation.images[:256]
            difference = (large(images) - small(images)).abs().max()
        return {"max_difference": float(difference), "seconds": seconds}, {"weights": large.state_dict()}

    def _expander(self, small: nn.Module, draw: int) -> Expander:
        """The expansion of the base model with a numbered random draw; draw 0 is the run's own."""
        train, seed = self.data.train, seed_of("expand", self.r.expanded_inputs, *([draw] if draw else []))
        return Expander(small, self.r.expansion, data=(train.images, train.labels), seed=seed)

    def _measure(self, base: Stage, expanded: Stage) -> Computed:
        scored = score(self.r.metric, self._subject(base, expanded))
        details = {**scored.details, **scored.costs}
        return {"value": scored.value, "stderr": scored.stderr, "seconds": scored.seconds, "details": details}, {}

    def _subject(self, base: Stage, expanded: Stage) -> Subject:
        """The expanded model to measure; cached, since the next run's metric may share intermediate results."""
        key = self.device + key_of("subject", self.r.expanded_inputs)
        if key not in _SUBJECTS:
            _SUBJECTS.clear()
            small = self._network(self.r.model, base)
            expander = cache(partial(self._expander, small))
            _SUBJECTS[key] = Subject(
                self._network(self.r.target().architecture, expanded),
                self.data.train,
                validation=self.data.validation,
                base=small,
                expand=lambda network, draw: expander(draw)(network),
                seed=seed_of("measure", self.r.expanded_inputs),
                images_seed=seed_of("measured images", self._order),
            )
        return _SUBJECTS[key]

    def _train_expanded(self, expanded: Stage) -> Computed:
        model = self._network(self.r.target().architecture, expanded)
        return self._train(model, self._recipe, seed_of("trained order", self._order))

    @property
    def _recipe(self) -> Training:
        """The training recipe, with the number of steps that the expansion sets."""
        training, shape = self.r.training, self.r.dataset.shape()
        costs = flops(self.r.model, shape), flops(self.r.target().architecture, shape)
        return training.model_copy(update={"steps": self.r.expansion.training_steps(training.steps, *costs)})

    @property
    def _order(self) -> dict[str, Any]:
        """What the order of the images depends on. All expansions see the same order, so their gains are paired."""
        return {k: self.r.base_inputs[k] for k in ("dataset", "training", "seed")}

    def _train(self, model: nn.Module, training: Training, seed: int) -> Computed:
        history = train(model, self.data.train, training, torch.Generator().manual_seed(seed))
        test, validation = evaluate(model, self.data.test), evaluate(model, self.data.validation)
        if not math.isfinite(test.loss):  # the weights are finite, but the test loss is not
            raise DivergedError(training.steps, test.loss)
        values = {
            "accuracy": test.accuracy,
            "loss": test.loss,
            "validation_accuracy": validation.accuracy,
            "validation_loss": validation.loss,
            "train_loss": evaluate(model, self.data.train).loss,
            "seconds": history.seconds,
        }
        return values, {"weights": model.state_dict(), "history": {"losses": history.losses}}


@lru_cache(maxsize=2)
def load_data(dataset: Dataset, device: torch.device | str, progress: Progress[Any] = silent) -> Data:
    """The data on the device; cached for the next run.

    Args:
        dataset: what to load.
        device: where the images and labels go.
        progress: shows the progress.

    Returns:
        The data.

    Raises:
        DataError: the data do not have the shape that the data set's options state.
    """
    data = dataset.load(progress)
    if data.shape != dataset.shape():
        raise DataError(f"dataset {dataset.name!r} should have {dataset.shape()} and has {data.shape}")
    return data.to(device)
