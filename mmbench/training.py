"""The training recipe and the one loop that base models, expanded models and branches share.

Data are resident, batches are slices of a copy that is shuffled and made once per epoch, the parameters are one flat
vector, and losses stay on the device until an epoch ends: a step costs little beyond its forward and backward pass.
"""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from mmbench.errors import ConfigError, DivergedError
from mmbench.registry import TRAININGS, Component

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from torch import Tensor, nn

    from mmbench.data.base import Split


class Training(Component):
    """Base of the recipes: a fixed number of steps, linear warm-up, then a cosine to zero."""

    steps: int = Field(300, ge=1)
    """Optimiser steps."""
    batch_size: int = Field(64, ge=1)
    """Images per step; at most the size of the training split."""
    lr: float = Field(0.05, gt=0)
    """Peak learning rate."""
    weight_decay: float = Field(0.0, ge=0)
    """Decay of all parameters: added to the gradient (sgd), decoupled from it (adamw)."""
    warmup_steps: int = Field(15, ge=0)
    """Steps of linear warm-up; fewer than `steps`."""
    clip_norm: float | None = Field(5.0, gt=0)
    """Largest Euclidean norm of the gradient; null to leave it as it is."""

    @model_validator(mode="after")
    def _warmup_ends(self) -> Self:
        if self.warmup_steps >= self.steps:
            raise ValueError(
                f"training.warmup_steps = {self.warmup_steps} must be smaller than training.steps = {self.steps}"
            )
        return self

    def learning_rate(self, step: int) -> float:
        """The rate of step 0, 1, ...: linear from lr / warmup_steps to lr, then lr (1 + cos(pi t)) / 2."""
        if step < self.warmup_steps:
            return self.lr * (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / (self.steps - self.warmup_steps)
        return self.lr * 0.5 * (1 + math.cos(math.pi * done))

    @abstractmethod
    def updater(self, weights: Tensor, gradient: Tensor) -> Callable[[float], None]:
        """A function that makes one update of the weights from what the gradient holds, at a given learning rate."""


@TRAININGS.register("sgd")
class SGD(Training):
    """Stochastic gradient descent with momentum: b <- m b + g + wd w, w <- w - lr b."""

    momentum: float = Field(0.9, ge=0, lt=1)
    """m; 0 is plain SGD."""

    def updater(self, weights: Tensor, gradient: Tensor) -> Callable[[float], None]:
        """Two operations, three with weight decay."""
        import torch

        velocity = torch.zeros_like(weights)

        def update(lr: float) -> None:
            if self.weight_decay:
                gradient.add_(weights, alpha=self.weight_decay)
            torch.add(gradient, velocity, alpha=self.momentum, out=velocity)
            weights.add_(velocity, alpha=-lr)

        return update


@TRAININGS.register("adamw")
class AdamW(Training):
    """AdamW (Loshchilov and Hutter, 2019), torch's fused kernel on the one flat vector."""

    lr: float = Field(0.002, gt=0)
    """Peak learning rate."""
    weight_decay: float = Field(0.01, ge=0)
    """Decoupled decay of all parameters."""
    beta1: float = Field(0.9, ge=0, lt=1)
    """Decay of the first moment."""
    beta2: float = Field(0.999, ge=0, lt=1)
    """Decay of the second moment."""

    def updater(self, weights: Tensor, gradient: Tensor) -> Callable[[float], None]:
        """One fused kernel."""
        import torch

        parameter = torch.nn.Parameter(weights)
        parameter.grad = gradient
        betas = (self.beta1, self.beta2)
        optimizer = torch.optim.AdamW([parameter], betas=betas, weight_decay=self.weight_decay, fused=True)

        def update(lr: float) -> None:
            optimizer.param_groups[0]["lr"] = lr
            optimizer.step()

        return update


def _recipe(value: Any) -> Any:
    try:
        return TRAININGS.create(value) if isinstance(value, Mapping) else value
    except ConfigError as error:
        raise ValueError(str(error)) from None  # so that the other options are still checked


AnyTraining = Annotated[Training, BeforeValidator(_recipe)]
"""A field that holds a recipe, given as one or as its name and options."""


@dataclass(frozen=True)
class History:
    """What a training left behind beside the weights."""

    losses: Tensor
    """Training loss (mean cross-entropy, nats) of each step's batch, before the update."""
    seconds: float


def train(
    model: nn.Module, data: Split, recipe: Training, generator: torch.Generator, stop_after: int | None = None
) -> History:
    """Train `model` in place.

    Args:
        model: on the data's device; its parameters become views of one vector, convolutions channels_last.
        data: the training images and labels.
        recipe: optimiser, schedule, steps.
        generator: a CPU generator for the order of the images, whatever the device.
        stop_after: end after this many steps of the recipe's schedule.

    Raises:
        DivergedError: a batch's loss is not finite; names the first such step, or `steps` if only the last update left
            the finite numbers.
    """
    import torch
    from torch.nn.functional import cross_entropy

    from mmbench.flat import Flat

    start = time.perf_counter()
    steps = recipe.steps if stop_after is None else min(stop_after, recipe.steps)
    layout = memory_format(model)
    flat = Flat(model.train().to(memory_format=layout))
    update, gradient = recipe.updater(flat.vector, flat.gradient), flat.gradient
    size = min(recipe.batch_size, len(data))
    per_epoch = len(data) // size
    losses = torch.zeros(steps, device=data.labels.device)
    for step in range(steps):
        position = step % per_epoch
        if position == 0:
            require_finite(losses[max(0, step - per_epoch) : step], max(0, step - per_epoch))
            order = torch.randperm(len(data), generator=generator)[: (steps - step) * size].to(data.labels.device)
            images, labels = data.images[order].contiguous(memory_format=layout), data.labels[order]
        batch = slice(position * size, (position + 1) * size)
        gradient.zero_()
        loss = cross_entropy(model(images[batch]), labels[batch])
        loss.backward()
        losses[step] = loss.detach()
        clip(gradient, recipe.clip_norm)
        update(recipe.learning_rate(step))
    require_finite(losses, weights=flat.vector)
    model.eval()
    return History(losses, time.perf_counter() - start)


def memory_format(model: nn.Module) -> torch.memory_format:
    """channels_last for convolutional networks, on which it is a third faster; else contiguous."""
    import torch

    convolutions = sum(isinstance(m, torch.nn.Conv2d) for m in model.modules())
    return torch.channels_last if convolutions > 1 else torch.contiguous_format


def clip(gradient: Tensor, norm: float | None) -> None:
    """Shorten the gradient of each network (..., P) to the norm, if there is one and it is longer."""
    import torch

    if norm is not None:
        length = torch.linalg.vector_norm(gradient, dim=-1, keepdim=True)
        gradient.mul_((norm / (length + 1e-12)).clamp_max(1.0))


def require_finite(losses: Tensor, first: int = 0, weights: Tensor | None = None) -> None:
    """`DivergedError` at the first loss that is not a finite number, or after the last if a weight is none."""
    import torch

    bad = (~torch.isfinite(losses)).nonzero()
    if len(bad):
        step = int(bad[0])
        raise DivergedError(first + step, float(losses[step]))
    if weights is not None and not torch.isfinite(weights).all():
        raise DivergedError(first + len(losses), math.nan)


@dataclass(frozen=True)
class Evaluation:
    """Mean cross-entropy in nats and accuracy in [0, 1] on a split."""

    loss: float
    accuracy: float


def evaluate(model: nn.Module, data: Split, batch_size: int = 2048) -> Evaluation:
    """Loss and accuracy in evaluation mode; the model's mode is left as it was."""
    import torch
    from torch.nn.functional import cross_entropy

    mode = model.training
    model.eval()
    with torch.inference_mode():
        logits = torch.cat([model(images) for images in data.images.split(batch_size)])
        loss = cross_entropy(logits.double(), data.labels)
        accuracy = (logits.argmax(1) == data.labels).double().mean()
    model.train(mode)
    return Evaluation(float(loss), float(accuracy))
