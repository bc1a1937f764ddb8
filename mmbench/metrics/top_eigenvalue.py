"""Largest eigenvalue of the Hessian of the training loss, lambda_max = max over ||v|| = 1 of v' H v (with its sign).

By Lanczos iteration (1950), which converges in a few products and whose residual bounds the error: an eigenvalue lies
within ||H v - theta v|| of every Ritz value theta. Power iteration would find the largest |lambda| instead, without a
bound on its error. Expected sign -1 (Keskar et al., 2017), though the value reflects the learning rate as much as the
landscape (Cohen et al., 2021; Kaur et al., 2023). Normalisation layers use their running statistics.
"""

from __future__ import annotations

from pydantic import Field

from mmbench.metrics._curvature import lanczos
from mmbench.metrics.base import METRICS, Estimate, Metric
from mmbench.metrics.subject import Subject


@METRICS.register("top_eigenvalue")
class TopEigenvalue(Metric):
    """The largest Ritz value; in place of a standard error it has a bound on the error, the residual."""

    expected_sign = -1

    tolerance: float = Field(0.01, gt=0)
    """Residual, relative to the eigenvalue, at which the iteration stops."""
    steps: int = Field(60, ge=1)
    """Hessian-vector products at most; each costs about two gradients."""
    images: int = Field(256, ge=1)
    """Training images that the loss is taken on."""

    def measure(self, subject: Subject) -> Estimate:
        """In nats per squared parameter unit; `details` has the smallest Ritz value and the number of products."""
        for step in range(1, self.steps + 1):
            run = lanczos(subject, self.images, probe=0, steps=step)
            values, _, residuals = run.ritz(step)
            if residuals[-1] <= self.tolerance * abs(values[-1]):
                break
        details = {"smallest": float(values[0]), "products": float(len(values))}
        return Estimate(float(values[-1]), float(residuals[-1]), details=details)
