"""Validation loss of the expanded network, before any further training; all held-out images count.

The training loss's counterpart on images that nothing was trained on, with the same expected sign of -1 and the same
limit: expansions that keep the function share one value.
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
