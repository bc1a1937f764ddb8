"""Number of trainable parameters: the first baseline that any metric must beat. Expected sign +1."""

from __future__ import annotations

from mmbench.metrics.base import METRICS, Estimate, Metric
from mmbench.metrics.subject import Subject


@METRICS.register("parameters")
class Parameters(Metric):
    """P, exactly."""

    expected_sign = 1

    def measure(self, subject: Subject) -> Estimate:
        """Count."""
        return Estimate(sum(p.numel() for p in subject.network().parameters()), 0.0)
