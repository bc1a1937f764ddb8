"""The training loop, the same for base models, expanded models and branches.

A step costs little beyond its forward and backward pass: the data are in memory, batches are slices of a copy that is
shuffled once per epoch, the parameters are one flat vector, and losses stay on the device until an epoch ends.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mmbench.data.base import Split
from mmbench.errors import DivergedError
from mmbench.training.flat import Flat
from mmbench.training.recipes import Training


@dataclass(frozen=True)
class History:
    """The result of a training; the weights are changed in place."""

    losses: Tensor
    """Training loss (mean cross-entropy, nats) of each step's batch, before the update."""
    seconds: float
    """Wall time of the training."""


def train(
    model: nn.Module, data: Split, recipe: Training, generator: torch.Generator, stop_after: int | None = None
) -> History:
    """Train `model` in place.

    Args:
        model: on the data's device; its parameters become views of one vector, convolutions channels_last.
        data: the training images and labels.
        recipe: optimiser, schedule, steps.
        generator: for the order of the images; a CPU generator, whatever the device.
        stop_after: end after this many steps of the recipe's schedule.

    Returns:
        The losses (steps,) and the seconds that the training took.

    Raises:
        DivergedError: the loss of a batch is not finite; the error names the first such step. If all losses are finite
            and only the last update made a weight infinite or NaN, it names `steps`.
    """
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
