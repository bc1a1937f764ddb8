"""Trace of the empirical Fisher, (1/N) sum_n ||grad log p(y_n|x_n)||^2 with the true labels (Kunstner et al., 2019).

The mean squared norm of single images' gradients; the norm of the mean gradient is another thing, and smaller. It goes
to 0 as the training images are fitted. Expected sign -1 (Jastrzebski et al., 2021). One backward pass; normalisation
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
        """In nats squared per squared parameter unit; `details` has the error that the choice of images makes."""
        value, spread = mean_and_error(image_fisher_traces(subject.surface(self.images)))
        return Estimate(value, 0.0, details={} if spread is None else {"image_stderr": spread})
