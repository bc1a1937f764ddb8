"""Norm of the loss's gradient: ||g||_2, g = grad L(w), L the mean cross-entropy.

A network with a steep loss learns fast, so the expected sign is +1 (Abdelfattah et al., 2021, who add up the norms of
single layers: a larger number, which depends on how the parameters are split into tensors). All parameters count.
"""

from __future__ import annotations

import torch
from pydantic import Field

from mmbench.metrics._proxy import Proxy
from mmbench.metrics.base import METRICS, Estimate
from mmbench.metrics.subject import Subject


@METRICS.register("grad_norm")
class GradNorm(Proxy):
    """Norm of the gradient in evaluation mode; exact, given the images."""

    expected_sign = 1

    images: int = Field(256, ge=1)
    """Training images used."""

    def look(self, subject: Subject) -> Estimate:
        """The norm, in nats per parameter unit."""
        surface = subject.surface(self.images)
        _, gradient = subject.once(("gradient", self.images), surface.loss_and_gradient)
        return Estimate(float(torch.linalg.vector_norm(gradient, dtype=torch.float64)), 0.0)
