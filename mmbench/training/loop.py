"""The training loop, the same for base models, expanded models and branches.

A step costs little beyond its forward and backward pass: the data are in memory, batches are slices of a copy that is
shuffled once per epoch, the parameters are one flat vector, and losses stay on the device until an epoch ends.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mmbench.data.base import Split
from mmbench.errors import DivergedError
from mmbench.training.flat import Flat
from mmbench.training.recipes import Training, Updater


@dataclass(frozen=True)
class History:
    """The result of a training; the weights are changed in place."""

    losses: Tensor
    """Training loss (mean cross-entropy, nats) of each step's batch, before the update."""
    seconds: float
    """Wall time of the training, without the time for saving snapshots."""
    validation: Validation | None = None
    """The evaluations along the way; None without a validation split."""

    def tensors(self) -> dict[str, Tensor]:
        """The curves by name, to be stored."""
        return {"losses": self.losses, **({} if self.validation is None else self.validation.tensors())}


@dataclass(frozen=True)
class Snapshot:
    """A training at one moment: all that is needed to go on from there."""

    step: int
    """Updates so far."""
    seconds: float
    """Time of the training up to here."""
    tensors: Mapping[str, Mapping[str, Tensor]]
    """`weights`, `optimizer`, `history` (the curves so far), `random` (states of the generators), and `best` if the
    best weights are kept."""


class Validation:
    """The evaluations of one training on the validation split, and its best weights."""

    def __init__(self, recipe: Training, data: Split, may_stop: bool) -> None:
        self._data, self._every = data, int(recipe.validate_every)
        self._keep_best = recipe.keep == "best"
        self._patience, self._min_delta = recipe.patience if may_stop else None, recipe.min_delta
        self.steps: list[int] = []
        self.accuracies: list[float] = []
        self.losses: list[float] = []
        self.best: dict[str, Tensor] = {}
        """State with the best accuracy so far, if it is kept."""

    def due(self, step: int) -> bool:
        """Whether the network is evaluated before update number `step`."""
        return bool(self._every) and step % self._every == 0 and step not in self.steps[-1:]

    def look(self, step: int, model: nn.Module) -> None:
        """Evaluate the network after `step` updates."""
        result = evaluate(model, self._data)
        if self._keep_best and (not self.accuracies or result.accuracy > max(self.accuracies)):
            self.best = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        self.steps.append(step)
        self.accuracies.append(result.accuracy)
        self.losses.append(result.loss)

    @property
    def exhausted(self) -> bool:
        """Whether the last `patience` evaluations brought no better accuracy, so that the training stops."""
        if self._patience is None:
            return False
        record, since = -1.0, 0
        for accuracy in self.accuracies:
            record, since = (accuracy, 0) if accuracy > record + self._min_delta else (record, since + 1)
        return since >= self._patience

    def tensors(self) -> dict[str, Tensor]:
        """Steps, accuracies and losses (nats), each (evaluations,)."""
        return {
            "validation_steps": torch.tensor(self.steps),
            "validation_accuracy": torch.tensor(self.accuracies, dtype=torch.float64),
            "validation_loss": torch.tensor(self.losses, dtype=torch.float64),
        }

    def restore(self, history: Mapping[str, Tensor], best: Mapping[str, Tensor]) -> None:
        """Continue after the evaluations of a snapshot."""
        self.steps = history["validation_steps"].tolist()
        self.accuracies = history["validation_accuracy"].tolist()
        self.losses = history["validation_loss"].tolist()
        self.best = dict(best)


def train(
    model: nn.Module,
    data: Split,
    recipe: Training,
    generator: torch.Generator,
    stop_after: int | None = None,
    *,
    validation: Split | None = None,
    may_stop: bool = True,
    moments: Collection[int] = (),
    save: Callable[[Snapshot], None] = lambda snapshot: None,
    resume: Snapshot | None = None,
) -> History:
    """Train `model` in place.

    Args:
        model: on the data's device; its parameters become views of one vector, convolutions channels_last.
        data: the training images and labels.
        recipe: optimiser, schedule, length.
        generator: for the order of the images; a CPU generator, whatever the device.
        stop_after: end after this many steps of the recipe's schedule, with the last weights.
        validation: the split on which the network is evaluated as the recipe says, before the first update and after
            the recipe's last one, too. Without it there is no early stopping, and the last weights are kept.
        may_stop: whether the recipe's `patience` counts.
        moments: numbers of updates after which `save` is called.
        save: receives the training at these moments.
        resume: continue from here, with the same data and recipe, to the same result as without the interruption. The
            model's weights and the generator's state are replaced.

    Returns:
        The losses (steps,), also of the steps before `resume`, the seconds, and the evaluations.

    Raises:
        DivergedError: the loss of a batch is not finite; the error names the first such step. If all losses are finite
            and only the last update made a weight infinite or NaN, it names `steps`.
        ConfigError: the recipe's warm-up is longer than its epochs.
    """
    start = time.perf_counter() - (resume.seconds if resume else 0.0)
    recipe = recipe.in_steps(len(data))
    steps = recipe.steps if stop_after is None else min(stop_after, recipe.steps)
    layout = memory_format(model)
    flat = Flat(model.train().to(memory_format=layout))
    gradient = flat.gradient
    updater = recipe.updater(flat.vector, gradient)
    size, per_epoch = min(recipe.batch_size, len(data)), recipe.epoch_steps(len(data))
    losses = torch.zeros(steps, device=data.labels.device)
    watch = None if validation is None else Validation(recipe, validation, may_stop)
    first = 0 if resume is None else _restore(resume, model, updater, generator, losses, watch)
    shuffled_by = generator.get_state()
    step = first
    for step in range(first, steps + 1):
        position = step % per_epoch
        if watch is not None and (watch.due(step) or (step == recipe.steps and step not in watch.steps[-1:])):
            watch.look(step, model)
        if step in moments:
            pause = time.perf_counter()
            state = generator.get_state() if position == 0 else shuffled_by
            save(_snapshot(step, pause - start, model, updater, state, losses[:step], watch))
            start += time.perf_counter() - pause
        if step == steps or (watch is not None and watch.exhausted):
            break
        if position == 0 or step == first:
            require_finite(losses[max(0, step - per_epoch) : step], max(0, step - per_epoch))
            shuffled_by = generator.get_state()
            order = torch.randperm(len(data), generator=generator)[: (steps - step + position) * size]
            order = order.to(data.labels.device)
            images, labels = data.images[order].contiguous(memory_format=layout), data.labels[order]
        batch = slice(position * size, (position + 1) * size)
        gradient.zero_()
        loss = cross_entropy(model(images[batch]), labels[batch])
        loss.backward()
        losses[step] = loss.detach()
        clip(gradient, recipe.clip_norm)
        updater.apply(recipe.learning_rate(step))
    losses = losses[:step]
    require_finite(losses, weights=flat.vector)
    model.eval()
    if watch is not None and watch.best and stop_after is None:
        model.load_state_dict(watch.best)
    return History(losses, time.perf_counter() - start, watch)


def _snapshot(
    step: int,
    seconds: float,
    model: nn.Module,
    updater: Updater,
    shuffled_by: Tensor,
    losses: Tensor,
    watch: Validation | None,
) -> Snapshot:
    tensors: dict[str, Mapping[str, Tensor]] = {
        "weights": model.state_dict(),
        "optimizer": updater.state,
        "history": History(losses, seconds, watch).tensors(),
        "random": {"order": shuffled_by, "global": torch.get_rng_state()},
    }
    return Snapshot(step, seconds, tensors | ({"best": watch.best} if watch is not None and watch.best else {}))


def _restore(
    snapshot: Snapshot,
    model: nn.Module,
    updater: Updater,
    generator: torch.Generator,
    losses: Tensor,
    watch: Validation | None,
) -> int:
    """Set a training to a snapshot; returns the number of updates so far."""
    history = snapshot.tensors["history"]
    model.load_state_dict(dict(snapshot.tensors["weights"]))
    for name, tensor in updater.state.items():
        tensor.copy_(snapshot.tensors["optimizer"][name])
    generator.set_state(snapshot.tensors["random"]["order"])
    torch.set_rng_state(snapshot.tensors["random"]["global"])
    losses[: snapshot.step] = history["losses"].to(losses)
    if watch is not None:
        watch.restore(history, snapshot.tensors.get("best", {}))
    return snapshot.step


def memory_format(model: nn.Module) -> torch.memory_format:
    """channels_last for convolutional networks, which it makes a third faster; contiguous for all others."""
    convolutions = sum(isinstance(m, torch.nn.Conv2d) for m in model.modules())
    return torch.channels_last if convolutions > 1 else torch.contiguous_format


def clip(gradient: Tensor, norm: float | None) -> None:
    """Clip each gradient (..., P) in place to at most this Euclidean norm; None: no clipping."""
    if norm is not None:
        length = torch.linalg.vector_norm(gradient, dim=-1, keepdim=True)
        gradient.mul_((norm / (length + 1e-12)).clamp_max(1.0))


def require_finite(losses: Tensor, first: int = 0, weights: Tensor | None = None) -> None:
    """Check that a training has not diverged.

    Args:
        losses: (steps,) of consecutive steps, in nats.
        first: number of the first step.
        weights: (P,) after the last step; not checked if None.

    Raises:
        DivergedError: a loss is not finite (names its step), or a weight is not (names the step after the last).
    """
    diverged = (~torch.isfinite(losses)).nonzero()
    if len(diverged):
        step = int(diverged[0])
        raise DivergedError(first + step, float(losses[step]))
    if weights is not None and not torch.isfinite(weights).all():
        raise DivergedError(first + len(losses), math.nan)


@dataclass(frozen=True)
class Evaluation:
    """Mean cross-entropy in nats and accuracy in [0, 1] on a split."""

    loss: float
    accuracy: float


def evaluate(model: nn.Module, data: Split, batch_size: int = 2048) -> Evaluation:
    """Loss and accuracy of a network in evaluation mode.

    Args:
        model: on the data's device; its mode does not change.
        data: images (N, C, H, W) and labels (N,).
        batch_size: images per forward pass.

    Returns:
        Both, averaged over all N images; the loss in float64.
    """
    mode = model.training
    model.eval()
    with torch.inference_mode():
        logits = torch.cat([model(images) for images in data.images.split(batch_size)])
        loss = cross_entropy(logits.double(), data.labels)
        accuracy = (logits.argmax(1) == data.labels).double().mean()
    model.train(mode)
    return Evaluation(float(loss), float(accuracy))
