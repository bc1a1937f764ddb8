"""Branches: short trainings from one shared start, each with its own order of the images (Frankle et al., 2020)."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, NamedTuple

import torch

from mmbench.training import Training, train

if TYPE_CHECKING:
    from torch import Tensor, nn

    from mmbench.data.base import Split


class Branch(NamedTuple):
    """A trained copy, and the loss of each step's batch (steps,), before the update."""

    model: nn.Module
    losses: Tensor


def sgd_branches(
    model: nn.Module, data: Split, recipe: Training, count: int, generator: torch.Generator
) -> list[Branch]:
    """`count` copies of `model`, each trained by the whole recipe; they differ in the order of the images alone."""
    branches = []
    for _ in range(count):
        branch = copy.deepcopy(model)
        history = train(branch, data, recipe, generator)
        branches.append(Branch(branch, history.losses))
    return branches


def shortened(recipe: Training, fraction: float) -> Training:
    """The recipe with its steps and warm-up scaled by `fraction`: the cosine still ends at zero, only sooner."""
    steps = max(1, round(recipe.steps * fraction))
    return recipe.model_copy(
        update={"steps": steps, "warmup_steps": min(steps - 1, round(recipe.warmup_steps * fraction))}
    )
