"""Training loss after the first k steps of the recipe: early training predicts late training. Expected sign -1.

The cheapest serious rival of any landscape metric: train the model briefly and read the loss.
"""

from __future__ import annotations

from pydantic import Field

from mmbench.metrics._options import Trained
from mmbench.metrics.base import METRICS, Estimate, mean_and_error
from mmbench.metrics.subject import Subject


@METRICS.register("loss_after_k_steps")
class LossAfterKSteps(Trained):
    """Mean cross-entropy on training images, evaluation mode; the standard error is over the images."""

    expected_sign = -1

    images: int = Field(1024, ge=2)
    """Training images that the loss is taken on."""

    def measure(self, subject: Subject) -> Estimate:
        """Train for k steps, with an order of images that is used for metrics only, and return the loss in nats."""
        trained = subject.in_state("trained", self.steps, self.training)
        return Estimate(*mean_and_error(trained.surface(self.images).image_losses()))
