"""Sharpness as in sharpness-aware minimisation: how far the loss rises within a ball (Foret et al., 2021).

On a batch B of m images, max over ||e|| <= rho of L_B(w + e) - L_B(w). The maximum is taken to first order, at
e = rho g / ||g||, and averaged over disjoint batches (m-sharpness). Flat minima are thought to generalise better, so
the expected sign is -1.
"""

from __future__ import annotations

from pydantic import Field

from mmbench.landscape.perturbations import one_step_rises
from mmbench.metrics._options import Batched
from mmbench.metrics.base import METRICS, Estimate, mean_and_error
from mmbench.metrics.subject import Subject


@METRICS.register("sharpness")
class Sharpness(Batched):
    """One-step m-sharpness in evaluation mode; the standard error is over the batches."""

    expected_sign = -1

    rho: float = Field(0.05, gt=0)
    """Radius of the ball, Euclidean, in parameter units."""

    def measure(self, subject: Subject) -> Estimate:
        """Mean rise of the loss in nats."""
        return Estimate(*mean_and_error(one_step_rises(subject.surface(self.images), self.batch_size, self.rho)))
