"""Training loss of the expanded network before any further training: how much damage the expansion did.

An expansion that keeps the function keeps the loss, so this does not distinguish between such expansions. A lower loss
at the start is expected to last, so the expected sign is -1, as for the loss after k steps.
"""

from __future__ import annotations

from pydantic import Field

from mmbench.metrics.base import METRICS, Estimate, Metric, mean_and_error
from mmbench.metrics.subject import Subject


@METRICS.register("training_loss")
class TrainingLoss(Metric):
    """Mean cross-entropy on training images, evaluation mode; the standard error is over the images."""

    expected_sign = -1

    images: int = Field(256, ge=1)
    """Training images that the loss is taken on."""

    def measure(self, subject: Subject) -> Estimate:
        """The loss in nats."""
        return Estimate(*mean_and_error(subject.surface(self.images).image_losses()))
