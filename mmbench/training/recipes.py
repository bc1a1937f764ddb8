"""Training recipes: optimiser, schedule and steps. The loop is in loop.py."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Self

import torch
from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor

from mmbench.errors import ConfigError
from mmbench.registry import Component, Registry

TRAININGS: Registry[Training] = Registry("training", "mmbench.training")


class Training(Component):
    """Base of all recipes: a fixed number of steps, a linear warm-up, then a cosine to zero."""

    steps: int = Field(300, ge=1)
    """Optimiser steps."""
    batch_size: int = Field(64, ge=1)
    """Images per step; at most the size of the training split."""
    lr: float = Field(0.05, gt=0)
    """Peak learning rate."""
    weight_decay: float = Field(0.0, ge=0)
    """Decay of all parameters: added to the gradient (sgd) or decoupled from it (adamw)."""
    warmup_steps: int = Field(15, ge=0)
    """Steps of linear warm-up; fewer than `steps`."""
    clip_norm: float | None = Field(5.0, gt=0)
    """Largest Euclidean norm of the gradient; null for no clipping."""

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
        """A function of the learning rate that updates `weights` (..., P) in place from `gradient`."""


@TRAININGS.register("sgd")
class SGD(Training):
    """Stochastic gradient descent with momentum: b <- m b + g + wd w, w <- w - lr b."""

    momentum: float = Field(0.9, ge=0, lt=1)
    """m; 0 is plain SGD."""

    def updater(self, weights: Tensor, gradient: Tensor) -> Callable[[float], None]:
        """Two operations on all weights; three with weight decay."""
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
        """One fused kernel for all weights."""
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
"""A field that holds a recipe; it accepts a recipe, or its name and options."""
