"""Floating-point operations of the forward pass of one image, a multiply-add counted as two. Expected sign +1.

`mmbench.models.flops` says what counts. After the parameter count, this is the second trivial baseline: an operator
that adds few weights in early layers adds many operations.
"""

from __future__ import annotations

from mmbench.metrics.base import METRICS, Estimate, Metric
from mmbench.metrics.subject import Subject
from mmbench.models.flops import count_flops


@METRICS.register("flops")
class Flops(Metric):
    """Operations that the network executes, counted exactly."""

    expected_sign = 1

    def measure(self, subject: Subject) -> Estimate:
        """Count."""
        return Estimate(float(count_flops(subject.network(), subject.train.images[:1])), 0.0)
