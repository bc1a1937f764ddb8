"""Effective rank of the empirical neural tangent kernel K = J J' (Jacot et al., 2018), exp of its spectrum's entropy.

With p_i = lambda_i / sum lambda over the N C eigenvalues of K, the effective rank is exp(-sum p_i log p_i) (Roy and
Vetterli, 2007), between 1 and N C: the number of directions in which a small step can move the logits of the images.
Many directions are thought to mean that much can be learned, so the expected sign is +1. It grows with the number of
images, which is therefore fixed. Normalisation layers use their running statistics.
"""

from __future__ import annotations

import torch
from pydantic import Field

from mmbench.errors import ScoreError, UndefinedError
from mmbench.landscape.per_image import gram
from mmbench.metrics.base import METRICS, Estimate, Metric
from mmbench.metrics.subject import Subject

MOST = 8192
"""Rows of the kernel at most; the eigenvalues of that many take a minute."""


@METRICS.register("ntk_effective_rank")
class NTKEffectiveRank(Metric):
    """exp(entropy) of the kernel's normalised eigenvalues, exact for the images drawn."""

    expected_sign = 1

    images: int = Field(32, ge=1)
    """N training images; the kernel has N C rows."""

    def measure(self, subject: Subject) -> Estimate:
        """A number of directions."""
        surface = subject.surface(self.images)
        rows = surface.logits().numel()
        if rows > MOST:
            raise UndefinedError(
                f"the kernel of {len(surface.images)} images has {rows} rows, too many (at most {MOST}); "
                "lower metric.images"
            )
        kernel = gram(surface)
        if not torch.isfinite(kernel).all():
            raise ScoreError("the neural tangent kernel is not a finite number; has the network diverged?")
        values = torch.linalg.eigvalsh(kernel).clamp_min(0)
        total = values.sum()
        if not total > 0:
            raise ScoreError("the neural tangent kernel is zero: the logits do not depend on any parameter")
        p = values[values > 0] / total
        return Estimate(float(torch.exp(-(p * p.log()).sum())), 0.0)
