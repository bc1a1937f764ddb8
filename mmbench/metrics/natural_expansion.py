"""Natural expansion score (Mitchell et al., 2023, SENN): how fast a natural gradient step would lower the loss.

    eta = g' (F + d I)^-1 g,

with the gradient g and the Fisher matrix F of the mean loss (for softmax and cross-entropy also the Gauss-Newton
matrix). SENN adds capacity where it raises eta most, so the expected sign is +1. Exact: with the tangent kernel T of
the images (Jacot et al., 2018), r = p - y of all images and the block-diagonal S of their diag(p) - p p',

    eta = r' T (S T / N + d I)^-1 r / N^2.

Without d a network with more parameters than N (C - 1) would score the mean of 1 / p_y - 1, whatever its structure. So
d is `damping` times the mean of the N (C - 1) largest eigenvalues of F; the score keeps its value when all logits'
gradients are scaled together.
"""

from __future__ import annotations

import torch
from pydantic import Field

from mmbench.errors import ScoreError, UndefinedError
from mmbench.landscape.per_image import gram
from mmbench.landscape.surface import slopes
from mmbench.metrics.base import METRICS, Estimate, Metric
from mmbench.metrics.subject import Subject

MOST = 8192
"""Rows of the kernel at most."""


@METRICS.register("natural_expansion")
class NaturalExpansion(Metric):
    """g' (F + d I)^-1 g, exact for the images drawn."""

    expected_sign = 1

    damping: float = Field(0.1, gt=0)
    """d in units of the mean of F's eigenvalues that can differ from 0."""
    images: int = Field(32, ge=1)
    """N, training images used; the kernel has N C rows."""

    def measure(self, subject: Subject) -> Estimate:
        """The score in nats; `details` has d."""
        surface = subject.surface(self.images)
        logits = surface.logits().double()
        count, classes = logits.shape
        if logits.numel() > MOST:
            raise UndefinedError(
                f"the kernel of {count} images has {logits.numel()} rows, too many (at most {MOST}); "
                "lower metric.images"
            )
        kernel = gram(surface)
        if not torch.isfinite(kernel).all():
            raise ScoreError("the neural tangent kernel is not a finite number; has the network diverged?")
        p = logits.softmax(1)
        spread = torch.block_diag(*(torch.diag(row) - torch.outer(row, row) for row in p))
        fisher = spread @ kernel / count
        damping = self.damping * float(fisher.trace()) / (count * (classes - 1))
        if not damping > 0:
            raise ScoreError("the Fisher matrix is zero: the logits do not depend on any parameter, or are certain")
        r = slopes(logits, surface.images.labels).flatten()
        fisher += damping * torch.eye(len(r)).to(fisher)
        value = float(r @ kernel @ torch.linalg.solve(fisher, r)) / count**2
        return Estimate(value, 0.0, details={"damping": damping})
