"""Branches: short trainings from one shared start, each with its own order of the images (Frankle et al., 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmbench.data.base import Split
from mmbench.models.copies import copied
from mmbench.training.recipes import Training
from mmbench.training.stacked import train_all


class Branch(NamedTuple):
    """A trained copy, and the loss of each step's batch (steps,), before the update."""

    model: nn.Module
    losses: Tensor


def branches_from(
    starts: Sequence[nn.Module], data: Split, recipe: Training, generator: torch.Generator
) -> list[Branch]:
    """A copy of each network (all of one architecture), trained by the whole recipe, with its own order of images.

    Args:
        starts: the networks, which stay as they are.
        data: training images.
        recipe: of each training.
        generator: of the orders of the images.

    Returns:
        A branch for each start.
    """
    models = [copied(start) for start in starts]
    histories = train_all(models, data, recipe, generator)
    return [Branch(model, history.losses) for model, history in zip(models, histories, strict=True)]


def sgd_branches(
    model: nn.Module, data: Split, recipe: Training, count: int, generator: torch.Generator
) -> list[Branch]:
    """`count` trained copies of `model`, which differ in the order of the images alone.

    Args:
        model: the shared start, which stays as it is.
        data: training images.
        recipe: of each training.
        count: branches.
        generator: of the orders of the images.

    Returns:
        The branches.
    """
    return branches_from([model] * count, data, recipe, generator)


def shortened(recipe: Training, fraction: float, lr_factor: float = 1.0) -> Training:
    """The recipe with its steps and warm-up scaled by `fraction`: the cosine still ends at zero, only sooner.

    Args:
        recipe: to be shortened.
        fraction: of its steps, which are one at least.
        lr_factor: factor on the peak learning rate.

    Returns:
        A recipe of the same kind.
    """
    steps = max(1, round(recipe.steps * fraction))
    warmup = min(steps - 1, round(recipe.warmup_steps * fraction))
    return recipe.model_copy(update={"steps": steps, "warmup_steps": warmup, "lr": recipe.lr * lr_factor})


def perturbed(model: nn.Module, noise: float, generator: torch.Generator) -> nn.Module:
    """A copy with Gaussian noise on every weight: `noise` times the root mean square of its tensor.

    Args:
        model: stays as it is.
        noise: standard deviation, relative to that root mean square.
        generator: of the noise, on the CPU.

    Returns:
        The copy.
    """
    twin = copied(model)
    with torch.no_grad():
        for parameter in twin.parameters():
            draw = torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(parameter)
            parameter.add_(draw, alpha=noise * float(parameter.square().mean().sqrt()))
    return twin
