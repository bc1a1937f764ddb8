"""Trace of the loss's Hessian by Hutchinson's estimator, tr H = E[v' H v] for random signs v (Hutchinson, 1990).

Small curvature is held to mean good generalisation (Hochreiter and Schmidhuber, 1997; Keskar et al., 2017), so the
expected sign is -1. The trace is not invariant under rescaling of layers (Dinh et al., 2017).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from mmbench.metrics.base import Estimate, Metric, mean_and_error
from mmbench.registry import METRICS

if TYPE_CHECKING:
    from mmbench.metrics.subject import Subject


@METRICS.register("hessian_trace")
class HessianTrace(Metric):
    """Mean of v' H v over the probes; H of the mean cross-entropy in evaluation mode.

    Unbiased, since E[v v'] = I. The standard error is the probes' s / sqrt(probes), for the images drawn.
    """

    expected_sign = -1

    probes: int = Field(16, ge=2)
    """Random sign vectors; each costs about two gradients."""
    images: int = Field(256, ge=1)
    """Training images that the loss is taken on."""

    def measure(self, subject: Subject) -> Estimate:
        """Trace in nats per squared parameter unit."""
        from mmbench.landscape.hessian import rademacher_forms

        surface = subject.surface(self.images)
        return Estimate(*mean_and_error(rademacher_forms(surface, self.probes, subject.generator(self.name))))
