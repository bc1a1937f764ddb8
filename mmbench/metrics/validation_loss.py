"""Validation loss of the expanded network before any further training, over all held-out images.

The counterpart of `training_loss` on images that were not trained on, with the same expected sign of -1 and the same
limit: all expansions that keep the function have the same value.
"""

from __future__ import annotations

from mmbench.metrics.base import METRICS, Estimate, Metric, mean_and_error
from mmbench.metrics.subject import PROBED, Subject


@METRICS.register("validation_loss")
class ValidationLoss(Metric):
    """Mean cross-entropy on the validation images, evaluation mode; the standard error is over the images."""

    expected_sign = -1

    def measure(self, subject: Subject) -> Estimate:
        """The loss in nats."""
        return Estimate(*mean_and_error(subject.surface(PROBED).on(subject.validation).image_losses()))
