"""Branches: short trainings from one shared start, each with its own order of the images (Frankle et al., 2020)."""

from __future__ import annotations

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


def sgd_branches(
    model: nn.Module, data: Split, recipe: Training, count: int, generator: torch.Generator
) -> list[Branch]:
    """`count` trained copies of `model`, which differ in the order of the images alone.

    Args:
        model: the shared start, which stays as it is.
        data: training images.
        recipe: of each training, all of it.
        count: branches.
        generator: of the orders of the images.

    Returns:
        The branches.
    """
    models = [copied(model) for _ in range(count)]
    histories = train_all(models, data, recipe, generator)
    return [Branch(model, history.losses) for model, history in zip(models, histories, strict=True)]


def shortened(recipe: Training, fraction: float) -> Training:
    """The recipe with its steps and warm-up scaled by `fraction`: the cosine still ends at zero, only sooner.

    Args:
        recipe: to be shortened; its length is in steps.
        fraction: of its steps, which are one at least.

    Returns:
        A recipe of the same kind.
    """
    steps = max(1, round(recipe.steps * fraction))
    warmup = min(steps - 1, round(recipe.warmup_steps * fraction))
    return recipe.model_copy(update={"steps": steps, "warmup_steps": warmup})
