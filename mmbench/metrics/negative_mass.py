"""Share of the Hessian's spectrum that is negative: sum over lambda < 0 of |lambda|, over the sum of all |lambda|.

From the spectral density by stochastic Lanczos quadrature (Ghorbani et al., 2019), averaged over the probes before the
two sums are divided: the mean of the probes' own ratios would be biased. It is 0 at a minimum of the loss on these
images. Remaining directions of negative curvature promise a gain, so the expected sign is +1. Normalisation layers use
their running statistics.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from mmbench.metrics._curvature import spectral
from mmbench.metrics.base import METRICS, Estimate, Metric
from mmbench.metrics.subject import Subject


@METRICS.register("negative_mass")
class NegativeMass(Metric):
    """Negative share of the absolute spectrum, in [0, 1]; the standard error is that of probes and steps."""

    expected_sign = 1

    probes: int = Field(6, ge=1)
    """Random start vectors; two or more give a standard error."""
    steps: int = Field(60, ge=3)
    """Hessian-vector products for each; exact where `probes` times `steps` are no fewer than the parameters."""
    images: int = Field(256, ge=1)
    """Training images that the loss is taken on."""

    def measure(self, subject: Subject) -> Estimate:
        """The share; 0 if the Hessian is zero."""

        def share(values: np.ndarray, weights: np.ndarray) -> float:
            total = float(weights @ abs(values))
            return float(weights @ abs(values.clip(max=0))) / total if total else 0.0

        return spectral(subject, self.images, self.probes, self.steps, share)
