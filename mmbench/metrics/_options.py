"""Options that several metrics have: batches of images, and training steps before the measurement."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from mmbench.metrics.base import Metric
from mmbench.training.recipes import SGD, AnyTraining


class Batched(Metric):
    """A metric that is averaged over disjoint batches of m images."""

    images: int = Field(256, ge=1)
    """Training images used."""
    batch_size: int = Field(64, ge=1)
    """m, the images per batch; at most `images`."""

    @model_validator(mode="after")
    def _batches_fit(self) -> Self:
        if self.batch_size > self.images:
            raise ValueError(
                f"metric.batch_size = {self.batch_size} must not be larger than metric.images = {self.images}"
            )
        return self


class Trained(Metric):
    """A metric that is measured after the first steps of the training recipe."""

    steps: int = Field(30, ge=1)
    """k, counted on the recipe's own schedule; at most the recipe's steps."""
    training: AnyTraining = SGD()
    """The recipe; in a run, it is the run's own."""

    @property
    def trains(self) -> bool:
        """Whether the steps are taken at all."""
        return True

    @model_validator(mode="after")
    def _within_the_recipe(self) -> Self:
        if self.trains and self.training.epochs is None and self.steps > self.training.steps:
            raise ValueError(
                f"metric.steps = {self.steps} must not be larger than training.steps = {self.training.steps}"
            )
        return self
