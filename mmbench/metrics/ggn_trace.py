"""Trace of the generalised Gauss-Newton matrix, tr G = (1/N) sum_n tr(J_n' S_n J_n) (Schraudolph, 2002).

J_n is the Jacobian of image n's logits, S_n = diag(p_n) - p_n p_n'. It is the part of the Hessian's trace that cannot
be negative. It is exact and costs C - 1 backward passes from the logits. Expected sign -1, as for the Hessian.
Normalisation layers use their running statistics.
"""

from __future__ import annotations

from pydantic import Field

from mmbench.metrics._curvature import gauss_newton_traces
from mmbench.metrics.base import METRICS, Estimate, Metric, mean_and_error
from mmbench.metrics.subject import Subject


@METRICS.register("ggn_trace")
class GGNTrace(Metric):
    """tr G of the mean cross-entropy, exact for the images drawn."""

    expected_sign = -1

    images: int = Field(256, ge=1)
    """Training images."""

    def measure(self, subject: Subject) -> Estimate:
        """In nats per squared parameter unit; `details` has the error due to the choice of images."""
        value, spread = mean_and_error(gauss_newton_traces(subject, self.images))
        return Estimate(value, 0.0, details={} if spread is None else {"image_stderr": spread})
