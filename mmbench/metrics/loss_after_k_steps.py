"""Training loss after the first k steps of the recipe: early training foretells late training. Expected sign -1.

The cheapest serious rival of any landscape metric: it trains the model for a while and looks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from mmbench.metrics.base import Estimate, Metric, mean_and_error
from mmbench.registry import METRICS
from mmbench.training import SGD, AnyTraining

if TYPE_CHECKING:
    from mmbench.metrics.subject import Subject


@METRICS.register("loss_after_k_steps")
class LossAfterKSteps(Metric):
    """Mean cross-entropy on training images, evaluation mode; the standard error is over the images."""

    expected_sign = -1

    steps: int = Field(30, ge=1)
    """k, counted on the recipe's own schedule; at most the recipe's steps."""
    images: int = Field(1024, ge=2)
    """Training images that the loss is taken on."""
    training: AnyTraining = SGD()
    """The recipe; in a run it is the run's."""

    @model_validator(mode="after")
    def _within_the_recipe(self) -> Self:
        if self.steps > self.training.steps:
            raise ValueError(
                f"metric.steps = {self.steps} must not be larger than training.steps = {self.training.steps}"
            )
        return self

    def measure(self, subject: Subject) -> Estimate:
        """Train for k steps, with an order of the images that no other stage uses, and take the loss in nats."""
        trained = subject.in_state("trained", self.steps, self.training)
        return Estimate(*mean_and_error(trained.surface(self.images).image_losses()))
