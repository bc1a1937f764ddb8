"""Effective dimension of the Hessian: sum over lambda > 0 of lambda / (lambda + z) (MacKay, 1992; Maddox et al., 2020).

The number of directions that the training images determine better than a prior of precision z. Estimated by stochastic
Lanczos quadrature: P sum_i tau_i^2 theta_i / (theta_i + z) over the positive nodes. Few determined directions are
thought to generalise better, so the expected sign is -1. Normalisation layers use their running statistics.

Few steps blur the many eigenvalues near 0: with the default ones the error is 2 to 30 %, and the standard error has it.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from mmbench.metrics._curvature import operator, spectral
from mmbench.metrics.base import METRICS, Estimate, Metric
from mmbench.metrics.subject import Subject


@METRICS.register("effective_dimension")
class EffectiveDimension(Metric):
    """Number of directions with curvature above z, softly counted; the standard error is that of probes and steps."""

    expected_sign = -1

    z: float = Field(0.01, gt=0)
    """Curvature at which a direction counts half, in nats per squared parameter unit of the mean loss."""
    probes: int = Field(6, ge=1)
    """Random start vectors; two or more give a standard error."""
    steps: int = Field(60, ge=3)
    """Hessian-vector products for each; exact where `probes` times `steps` are no fewer than the parameters."""
    images: int = Field(256, ge=1)
    """Training images that the loss is taken on."""

    def measure(self, subject: Subject) -> Estimate:
        """Between 0 and P."""
        size = operator(subject, self.images, "hessian").size

        def count(values: np.ndarray, weights: np.ndarray) -> float:
            positive = values.clip(min=0)
            return size * float(weights @ (positive / (positive + self.z)))

        return spectral(subject, self.images, self.probes, self.steps, count)
