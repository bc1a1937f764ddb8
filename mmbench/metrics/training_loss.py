"""Training loss of the expanded network, before any further training: what an expansion broke, if it broke anything.

An expansion that keeps the function keeps the loss, so among such ones it says nothing. A lead is held to last, so the
expected sign is -1, as that of the loss after k steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from mmbench.metrics.base import Estimate, Metric, mean_and_error
from mmbench.registry import METRICS

if TYPE_CHECKING:
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
