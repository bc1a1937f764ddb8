"""Floating-point operations of the forward pass of one image, a multiply-add counted as two. Expected sign +1.

`mmbench.models.flops` says what counts. After the parameter count, this is the second trivial baseline: an operator
that adds few weights in early layers adds many operations.
"""

from __future__ import annotations

import torch

from mmbench.metrics.base import METRICS, Estimate, Metric
from mmbench.metrics.subject import Subject
from mmbench.models.flops import count_flops


@METRICS.register("flops")
class Flops(Metric):
    """Operations that the network executes, counted exactly."""

    expected_sign = 1

    def measure(self, subject: Subject) -> Estimate:
        """Count."""
        model, image = subject.network(), subject.train.images[:1]
        try:
            return Estimate(float(count_flops(model, image)), 0.0)
        except ValueError:  # a batch norm without running statistics takes no single image
            subject.require_output()
            return Estimate(count_flops(model, torch.cat([image, image])) / 2, 0.0)
