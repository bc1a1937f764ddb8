"""Trace of the empirical Fisher, (1/N) sum_n ||grad log p(y_n|x_n)||^2 with the true labels (Kunstner et al., 2019).

The mean squared norm of the per-image gradients, not the smaller squared norm of the mean gradient. It goes to 0 as the
training images are fitted. Expected sign -1 (Jastrzebski et al., 2021). It costs one backward pass; normalisation
layers use their running statistics.
"""

from __future__ import annotations

from pydantic import Field

from mmbench.landscape.gauss_newton import image_fisher_traces
from mmbench.metrics.base import METRICS, Estimate, Metric, mean_and_error
from mmbench.metrics.subject import Subject


@METRICS.register("empirical_fisher_trace")
class EmpiricalFisherTrace(Metric):
    """Mean squared gradient norm of single images, exact for the images drawn."""

    expected_sign = -1

    images: int = Field(256, ge=1)
    """Training images."""

    def measure(self, subject: Subject) -> Estimate:
        """In nats squared per squared parameter unit; `details` has the error due to the choice of images."""
        value, spread = mean_and_error(image_fisher_traces(subject.surface(self.images)))
        return Estimate(value, 0.0, details={} if spread is None else {"image_stderr": spread})
