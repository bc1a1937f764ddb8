"""Training recipes: optimiser, schedule, length, and which weights are kept. The loop is in loop.py."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor

from mmbench.errors import ConfigError
from mmbench.registry import Component, Registry
from mmbench.training.moments import Moment, steps_until

TRAININGS: Registry[Training] = Registry("training", "mmbench.training")


@dataclass(frozen=True)
class Updater:
    """An optimiser of one vector of weights."""

    apply: Callable[[float], None]
    """Takes one step with the given learning rate."""
    state: Mapping[str, Tensor]
    """Its moments and counters, changed in place by each step; a training that is resumed copies them back."""


class Training(Component):
    """Base of all recipes: a number of steps or epochs, a linear warm-up, then a cosine to zero or a constant rate."""

    steps: int = Field(300, ge=1)
    """Optimiser steps, if `epochs` is not given."""
    epochs: int | None = Field(None, ge=1)
    """Passes through the training images; null if `steps` sets the length."""
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
    schedule: Literal["cosine", "constant"] = "cosine"
    """What the rate does after the warm-up: falls to zero with the last step, or stays."""
    validate_every: Moment = "1epochs"
    """How often the network is evaluated on the validation split: steps, or epochs such as `2epochs`; 0: at the end."""
    keep: Literal["last", "best"] = "last"
    """Which weights are the result: the last ones, or those with the best validation accuracy, the first of equals."""
    patience: int | None = Field(None, ge=1)
    """Stop after this many evaluations without a better validation accuracy; null for no early stopping."""
    min_delta: float = Field(0.0, ge=0, lt=1)
    """The least rise of the validation accuracy that `patience` counts as better."""
    stops: Literal["both", "base"] = "both"
    """Which trainings `patience` may stop: those of base and expanded models, or of base models alone."""
    repeats: int = Field(1, ge=1, le=1000)
    """Trainings of each expanded model, with different orders of the images; the gain is their mean."""

    @model_validator(mode="after")
    def _warmup_ends(self) -> Self:
        if self.epochs is None and self.warmup_steps >= self.steps:
            raise ValueError(
                f"training.warmup_steps = {self.warmup_steps} must be smaller than training.steps = {self.steps}"
            )
        return self

    def describe(self) -> dict[str, Any]:
        """The options that a training depends on: without `repeats`, and without `steps` where `epochs` counts."""
        without = {"repeats", "steps"} if self.epochs is not None else {"repeats"}
        return {key: value for key, value in super().describe().items() if key not in without}

    def epoch_steps(self, images: int) -> int:
        """Steps per epoch of that many training images; the last images, too few for a batch, are left out."""
        return max(1, images // min(self.batch_size, images))

    def in_steps(self, images: int) -> Self:
        """The recipe with its length and `validate_every` in steps.

        Args:
            images: the number of training images.

        Returns:
            The recipe, with `epochs` null.

        Raises:
            ConfigError: the warm-up is longer than the training.
        """
        per_epoch = self.epoch_steps(images)
        steps = self.steps if self.epochs is None else self.epochs * per_epoch
        if self.warmup_steps >= steps:
            raise ConfigError(
                f"training.warmup_steps = {self.warmup_steps} must be smaller than the {steps} steps of training.epochs"
                f" = {self.epochs} on {images:,} images"
            )
        every = steps_until(self.validate_every, per_epoch)
        return self.model_copy(update={"steps": steps, "epochs": None, "validate_every": every})

    def learning_rate(self, step: int) -> float:
        """The rate of step 0, 1, ...: linear from lr / warmup_steps to lr, then lr (1 + cos(pi t)) / 2 or lr."""
        if step < self.warmup_steps:
            return self.lr * (step + 1) / self.warmup_steps
        if self.schedule == "constant":
            return self.lr
        done = (step - self.warmup_steps) / (self.steps - self.warmup_steps)
        return self.lr * 0.5 * (1 + math.cos(math.pi * done))

    @abstractmethod
    def updater(self, weights: Tensor, gradient: Tensor) -> Updater:
        """An optimiser that changes `weights` (..., P) in place from `gradient`."""


@TRAININGS.register("sgd")
class SGD(Training):
    """Stochastic gradient descent with momentum: b <- m b + g + wd w, w <- w - lr b."""

    momentum: float = Field(0.9, ge=0, lt=1)
    """m; 0 is plain SGD."""

    def updater(self, weights: Tensor, gradient: Tensor) -> Updater:
        """Two operations on all weights; three with weight decay."""
        velocity = torch.zeros_like(weights)

        def update(lr: float) -> None:
            if self.weight_decay:
                gradient.add_(weights, alpha=self.weight_decay)
            torch.add(gradient, velocity, alpha=self.momentum, out=velocity)
            weights.add_(velocity, alpha=-lr)

        return Updater(update, {"velocity": velocity})


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

    def updater(self, weights: Tensor, gradient: Tensor) -> Updater:
        """One fused kernel for all weights."""
        parameter = torch.nn.Parameter(weights)
        parameter.grad = gradient
        betas = (self.beta1, self.beta2)
        optimizer = torch.optim.AdamW([parameter], betas=betas, weight_decay=self.weight_decay, fused=True)
        # torch makes this state in the first step; made here, it can be filled when a training is resumed
        state = {
            "step": torch.zeros((), dtype=torch.float32, device=weights.device),
            "exp_avg": torch.zeros_like(weights),
            "exp_avg_sq": torch.zeros_like(weights),
        }
        optimizer.state[parameter] = state

        def update(lr: float) -> None:
            optimizer.param_groups[0]["lr"] = lr
            optimizer.step()

        return Updater(update, state)


@TRAININGS.register("paper_adamw")
class PaperAdamW(AdamW):
    """The paper's recipe for images (Malviya et al., 2025): AdamW at a constant rate, the best weights kept.

    The base model is trained to early stopping, expanded models for all epochs. The paper does not give the patience.
    """

    epochs: int | None = Field(500, ge=1)
    """Passes through the training images; null if `steps` sets the length."""
    batch_size: int = Field(512, ge=1)
    """Images per step; at most the size of the training split."""
    lr: float = Field(0.001, gt=0)
    """Learning rate."""
    weight_decay: float = Field(0.0001, ge=0)
    """Decoupled decay of all parameters."""
    warmup_steps: int = Field(0, ge=0)
    """Steps of linear warm-up."""
    clip_norm: float | None = Field(None, gt=0)
    """Largest Euclidean norm of the gradient; null for no clipping."""
    schedule: Literal["cosine", "constant"] = "constant"
    """What the rate does after the warm-up: falls to zero with the last step, or stays."""
    keep: Literal["last", "best"] = "best"
    """Which weights are the result: the last ones, or those with the best validation accuracy, the first of equals."""
    patience: int | None = Field(20, ge=1)
    """Stop after this many evaluations without a better validation accuracy; null for no early stopping."""
    stops: Literal["both", "base"] = "base"
    """Which trainings `patience` may stop: those of base and expanded models, or of base models alone."""


def _recipe(value: Any) -> Any:
    try:
        return TRAININGS.create(value) if isinstance(value, Mapping) else value
    except ConfigError as error:
        raise ValueError(str(error)) from None  # so that the other options are still checked


AnyTraining = Annotated[Training, BeforeValidator(_recipe)]
"""A field that holds a recipe; it accepts a recipe, or its name and options."""
