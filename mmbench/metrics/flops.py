"""Floating-point operations of the forward pass of one image, a multiply-add counted as two. Expected sign +1.

What counts is told in `mmbench.flops`. Next to the parameters the second trivial rival: an operator that adds few
weights in early layers adds many operations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmbench.metrics.base import Estimate, Metric
from mmbench.registry import METRICS

if TYPE_CHECKING:
    from mmbench.metrics.subject import Subject


@METRICS.register("flops")
class Flops(Metric):
    """Operations counted as the network at hand makes them, exactly."""

    expected_sign = 1

    def measure(self, subject: Subject) -> Estimate:
        """Count."""
        from mmbench.flops import count_flops

        return Estimate(float(count_flops(subject.network(), subject.train.images[:1])), 0.0)
