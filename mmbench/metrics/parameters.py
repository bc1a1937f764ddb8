"""Number of trainable parameters: the first baseline that any metric must beat. Expected sign +1.

Frozen parameters (`requires_grad = False`) do not count; `details["all"]` includes them. Where none is trainable, all
count, as for every other metric.
"""

from __future__ import annotations

from mmbench.metrics.base import METRICS, Estimate, Metric
from mmbench.metrics.subject import Subject


@METRICS.register("parameters")
class Parameters(Metric):
    """P, exactly."""

    expected_sign = 1

    def measure(self, subject: Subject) -> Estimate:
        """Count."""
        parameters = list(subject.network().parameters())
        trainable = sum(p.numel() for p in parameters if p.requires_grad)
        return Estimate(trainable, 0.0, details={"all": float(sum(p.numel() for p in parameters))})
