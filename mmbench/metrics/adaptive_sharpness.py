"""Adaptive sharpness: how far the loss rises within a ball measured in units of each weight (ASAM; Kwon et al., 2021).

On a batch B of m images, max over ||T^-1 e|| <= rho of L_B(w + e) - L_B(w) with T = diag(|w| + eta). The maximum is
taken to first order, at e = rho T^2 g / ||T g||, and averaged over disjoint batches (m-sharpness). T covers all
parameters, including biases and normalisation layers. So with eta = 0 the value is invariant under any rescaling of
weights that keeps the function, such as a ReLU unit's a in, 1 / a out. It is not invariant under growth. Flat minima
are thought to generalise better, so the expected sign is -1.
"""

from __future__ import annotations

from pydantic import Field

from mmbench.landscape.perturbations import one_step_rises
from mmbench.metrics._options import Batched
from mmbench.metrics.base import METRICS, Estimate, mean_and_error
from mmbench.metrics.subject import Subject


@METRICS.register("adaptive_sharpness")
class AdaptiveSharpness(Batched):
    """One-step adaptive m-sharpness in evaluation mode; the standard error is over the batches."""

    expected_sign = -1

    rho: float = Field(0.5, gt=0)
    """Radius of the ball, Euclidean, in units of |w| + eta."""
    eta: float = Field(0.01, ge=0)
    """Added to |w|, so that a weight at zero can move; 0 for exact invariance under rescaling."""

    def measure(self, subject: Subject) -> Estimate:
        """Mean rise of the loss in nats."""
        surface = subject.surface(self.images)
        scale = surface.point.abs() + self.eta
        return Estimate(*mean_and_error(one_step_rises(surface, self.batch_size, self.rho, scale)))
