"""Compute a run: train the base model, expand it, measure the expanded model, train it, and store the record.

What is stored is not computed again. A metric may be taken at a later moment of the expanded model's training. The
sweep notes in the store which moments it will ask for, and the training leaves a snapshot at each. If another moment is
asked for afterwards, the training goes on from the last snapshot before it.
"""

from __future__ import annotations

import math
import statistics
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import cache, cached_property, partial
from typing import Any

import torch
from torch import nn

from mmbench.data.base import Data, Progress, load_data, silent
from mmbench.errors import BusyError, DivergedError, MmbenchError, StoreError, UndefinedError
from mmbench.expansions.apply import Expander
from mmbench.metrics.base import score
from mmbench.metrics.subject import Subject
from mmbench.models.base import Architecture
from mmbench.models.flops import flops
from mmbench.models.skeleton import skeleton
from mmbench.run import Run, is_final, note_moments, sizes
from mmbench.store.moments import noted_moments
from mmbench.store.stages import Stage
from mmbench.store.store import Computed, Store, key_of, seed_of
from mmbench.store.versions import versions
from mmbench.training.loop import History, Snapshot, evaluate, train
from mmbench.training.moments import steps_until
from mmbench.training.recipes import Training

_SUBJECTS: dict[str, Subject] = {}
"""The last expanded model that was measured in this process."""
VALIDATED = ("validation_accuracy", "best_validation_accuracy")
AVERAGED = ("accuracy", "loss", "train_loss", "seconds", *VALIDATED)
"""Results of the expanded model's trainings that a record holds the means of."""
Notify = Callable[[str], None]
"""Receives the name of a stage that is about to be computed."""


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
    record["config"] = run.config
    try:
        target = run.target()
        record |= {"axis": target.axis, "factor": target.factor, **sizes(run, target)}
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


class _Stages:
    """The stages of a run, computed where they are not stored."""

    def __init__(
        self, run: Run, store: Store, device: str, progress: Progress[Any], notify: Notify, wait: bool
    ) -> None:
        self.r, self.store, self.device, self.notify, self.progress = run, store, device, notify, progress
        self.wait = wait

    def run(self) -> Iterator[dict[str, Any]]:
        """Yield the columns of each stage, computed one after the other."""
        note_moments(self.store, [self.r])
        base = self.base()
        yield {f"base_{k}": base.values[k] for k in (*("accuracy", "loss", "seconds"), *VALIDATED)}
        reference = None
        if self.r.metric.compares:
            reference = self._stage("reference", self.r.reference_inputs, lambda: self._measure_base(base))
        expanded = self._stage("expanded", self.r.expanded_inputs, lambda: self._expand(base))
        yield {"max_difference": expanded.values["max_difference"], "expand_seconds": expanded.values["seconds"]}
        moment = self._moment(expanded)
        yield {
            "after": moment.values.get("step", 0),
            "after_epochs": moment.values.get("epochs", 0.0),
            "after_seconds": moment.values["seconds"] if moment is not expanded else 0.0,
        }
        scored = self._stage("score", self.r.score_inputs, lambda: self._measure(base, moment, reference))
        details = {f"{self.r.metric.name}_{k}": v for k, v in scored.values["details"].items()}
        yield {
            "score": scored.values["value"],
            "score_stderr": scored.values["stderr"],
            "metric_seconds": scored.values["seconds"],
            **details,
        }
        yield self._gains(base, [self._trained(expanded, repeat).values for repeat in range(self.r.training.repeats)])

    def _gains(self, base: Stage, trainings: list[dict[str, Any]]) -> dict[str, Any]:
        """The columns of the expanded model's trainings: means, and the standard error of the gain."""
        final = {key: statistics.fmean(training[key] for training in trainings) for key in AVERAGED}
        spread = statistics.stdev(t["accuracy"] for t in trainings) if len(trainings) > 1 else None
        return {
            **{f"final_{key}": final[key] for key in ("accuracy", "loss", "validation_accuracy", "train_loss")},
            "gain": final["accuracy"] - base.values["accuracy"],
            "gain_stderr": None if spread is None else spread / len(trainings) ** 0.5,
            "best_validation_accuracy": final["best_validation_accuracy"],
            "best_validation_gain": final["best_validation_accuracy"] - base.values["best_validation_accuracy"],
            "repeats": len(trainings),
            "train_steps": trainings[0]["steps"],
            "epoch_steps": trainings[0]["epoch_steps"],
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
        seed = seed_of("base order", self._order)
        return self._train(model.to(self.device), self.r.training, seed, may_stop=True)

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

    def _measure_base(self, base: Stage) -> Computed:
        subject = Subject(
            self._network(self.r.model, base),
            self.data.train,
            validation=self.data.validation,
            seed=seed_of("measure base", self.r.base_inputs),
            images_seed=seed_of("measured images", self._order),
        )
        tensors, seconds = subject.measured(self.r.metric.reference)
        return {"seconds": seconds}, {"tensors": tensors}

    def _measure(self, base: Stage, moment: Stage, reference: Stage | None) -> Computed:
        subject, seconds = self._subject(base, moment), 0.0
        if reference is not None:
            subject.give_reference(self.r.metric, reference.tensors("tensors"))
            seconds = reference.values["seconds"]
        scored = score(self.r.metric, subject)
        details = {**scored.details, **scored.costs, **({"base_seconds": seconds} if reference is not None else {})}
        values = {"value": scored.value, "stderr": scored.stderr, "seconds": scored.seconds + seconds}
        return {**values, "details": details}, {"tensors": scored.tensors} if scored.tensors else {}

    def _subject(self, base: Stage, moment: Stage) -> Subject:
        """The expanded model to measure; cached, since the next run's metric may share intermediate results."""
        key = f"{self.device} {moment.folder}"
        if key not in _SUBJECTS:
            _SUBJECTS.clear()
            small = self._network(self.r.model, base)
            expander = cache(partial(self._expander, small))
            begun = moment.kind == "snapshot"
            _SUBJECTS[key] = Subject(
                self._network(self.r.target().architecture, moment),
                self.data.train,
                validation=self.data.validation,
                base=small,
                expand=lambda network, draw: expander(draw)(network),
                seed=seed_of("measure", self.r.expanded_inputs),
                images_seed=seed_of("measured images", self._order),
                losses=moment.tensors("history")["losses"] if begun else None,
                epoch_steps=self._recipe.epoch_steps(len(self.data.train)) if begun else None,
            )
        return _SUBJECTS[key]

    def _moment(self, expanded: Stage) -> Stage:
        """The expanded model at the metric's moment: the expansion itself, or a snapshot of its training."""
        after = self.r.metric.after
        if not after:
            return expanded
        # The training itself leaves the snapshots that were asked for before it began.
        inputs = self.r.snapshot_inputs
        if not self.store.has("snapshot", inputs):
            length = self._trained(expanded, 0).values["steps"]
            steps = steps_until(after, self._recipe.epoch_steps(len(self.data.train)))
            if steps > length:
                raise UndefinedError(
                    f"metric.after = {after} is after the end of the training, which took {length} steps"
                )
        return self._stage("snapshot", inputs, lambda: self._train_until(expanded, after))

    def _train_until(self, expanded: Stage, moment: int | str) -> Computed:
        """The training up to a moment, from the last snapshot before it."""
        steps = steps_until(moment, self._recipe.epoch_steps(len(self.data.train)))
        key, earlier = key_of("trained", self.r.trained_inputs()), []
        for asked in noted_moments(self.store.root, key):
            stage = self.store.load("snapshot", key_of("snapshot", self.r.snapshot_at(asked)))
            if stage is not None and stage.values["step"] <= steps:
                earlier.append(stage)
        last = max(earlier, key=lambda stage: stage.values["step"], default=None)
        saved: list[Snapshot] = []
        self._fit(expanded, 0, stop_after=steps, moments=[steps], save=saved.append,
                  resume=None if last is None else _snapshot_of(last))  # fmt: skip
        return self._stored(saved[-1])

    def _trained(self, expanded: Stage, repeat: int) -> Stage:
        return self._stage("trained", self.r.trained_inputs(repeat), lambda: self._train_expanded(expanded, repeat))

    def _train_expanded(self, expanded: Stage, repeat: int) -> Computed:
        per_epoch, wanted = self._recipe.epoch_steps(len(self.data.train)), defaultdict(list)
        if not repeat:
            for moment in noted_moments(self.store.root, key_of("trained", self.r.trained_inputs())):
                wanted[steps_until(moment, per_epoch)].append(moment)

        def save(snapshot: Snapshot) -> None:
            for moment in wanted[snapshot.step]:
                self.store.stage("snapshot", self.r.snapshot_at(moment), lambda: self._stored(snapshot))

        model, history = self._fit(expanded, repeat, moments=wanted.keys(), save=save)
        return self._result(model, history, self._recipe)

    def _stored(self, snapshot: Snapshot) -> Computed:
        epochs = snapshot.step / self._recipe.epoch_steps(len(self.data.train))
        # The training changes its tensors in place; the store copies them before it goes on.
        values = {"step": snapshot.step, "epochs": epochs, "seconds": snapshot.seconds}
        return values, dict(snapshot.tensors)

    def _fit(self, expanded: Stage, repeat: int, **options: Any) -> tuple[nn.Module, History]:
        """Train the expanded model, or a part of it; options as of `train`."""
        model, again = self._network(self.r.target().architecture, expanded), [repeat] if repeat else []
        seed = seed_of("trained order", self._order, *again)
        return model, self._fitted(model, self._recipe, seed, self.r.training.stops == "both", **options)

    @cached_property
    def _recipe(self) -> Training:
        """The expanded model's recipe in steps, whose number the expansion sets."""
        training, shape = self.r.training.in_steps(len(self.data.train)), self.r.dataset.shape()
        costs = flops(self.r.model, shape), flops(self.r.target().architecture, shape)
        return training.model_copy(update={"steps": self.r.expansion.training_steps(training.steps, *costs)})

    @property
    def _order(self) -> dict[str, Any]:
        """What the order of the images depends on. All expansions see the same order, so their gains are paired."""
        return {k: self.r.base_inputs[k] for k in ("dataset", "training", "seed")}

    def _train(self, model: nn.Module, training: Training, seed: int, *, may_stop: bool) -> Computed:
        return self._result(model, self._fitted(model, training, seed, may_stop), training)

    def _fitted(self, model: nn.Module, training: Training, seed: int, may_stop: bool, **options: Any) -> History:
        device = self.data.train.labels.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(seed)  # of dropout; the order of the images has a generator of its own
            order = torch.Generator().manual_seed(seed)
            return train(
                model, self.data.train, training, order, validation=self.data.validation, may_stop=may_stop, **options
            )

    def _result(self, model: nn.Module, history: History, training: Training) -> Computed:
        test, validation = evaluate(model, self.data.test), evaluate(model, self.data.validation)
        if not math.isfinite(test.loss):  # the weights are finite, but the test loss is not
            raise DivergedError(len(history.losses), test.loss)
        assert history.validation is not None
        values = {
            "accuracy": test.accuracy,
            "loss": test.loss,
            "validation_accuracy": validation.accuracy,
            "validation_loss": validation.loss,
            "best_validation_accuracy": max(history.validation.accuracies),
            "train_loss": evaluate(model, self.data.train).loss,
            "steps": len(history.losses),
            "epoch_steps": training.epoch_steps(len(self.data.train)),
            "seconds": history.seconds,
        }
        return values, {"weights": model.state_dict(), "history": history.tensors()}


def _snapshot_of(stage: Stage) -> Snapshot:
    """A stored snapshot, to go on from."""
    names = ("weights", "optimizer", "history", "random", "best")
    stored = {name: stage.tensors(name) for name in names if (stage.folder / f"{name}.safetensors").exists()}
    return Snapshot(stage.values["step"], stage.values["seconds"], stored)
