"""A uniform random number: the negative control, whose correlation is due to chance alone."""

from __future__ import annotations

import torch

from mmbench.metrics.base import METRICS, Estimate, Metric
from mmbench.metrics.subject import Subject


@METRICS.register("random")
class Random(Metric):
    """U(0, 1), drawn anew for every model and seed."""

    expected_sign = 0

    def measure(self, subject: Subject) -> Estimate:
        """One draw; the standard deviation of U(0, 1) is 1 / sqrt(12)."""
        return Estimate(float(torch.rand((), generator=subject.generator(self.name), dtype=torch.float64)), 12**-0.5)
