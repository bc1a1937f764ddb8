"""Norm of the loss's gradient (Abdelfattah et al., 2021); L is the mean cross-entropy.

`norm = whole` is ||grad L||_2 over all trainable parameters. `norm = layers` is the sum over linear layers and
convolutions of ||dL/dW||_2, W a layer's kernel: the score of the published code, which leaves out biases and
normalisation layers. At equal ||grad L|| it grows with the number of layers. A network with a steep loss learns fast:
expected sign +1.
"""

from __future__ import annotations

from typing import Literal

import torch

from mmbench.metrics._proxy import OnOneBatch, kernels
from mmbench.metrics.base import METRICS, Estimate
from mmbench.metrics.subject import Subject


@METRICS.register("grad_norm")
class GradNorm(OnOneBatch):
    """Norm of the gradient in evaluation mode; exact, given the images."""

    expected_sign = 1

    norm: Literal["whole", "layers"] = "whole"
    """Norm of the `whole` gradient, or the sum of the norms of the `layers`' kernels, as in the published code."""

    def look(self, subject: Subject) -> Estimate:
        """The norm, in nats per parameter unit."""
        subject = subject.plain if self.norm == "layers" else subject
        gradients = self.gradients(subject)
        if self.norm == "layers":
            gradients = {name: gradients[name] for name in kernels(self.surface(subject).model)}
        norms = torch.stack([torch.linalg.vector_norm(g, dtype=torch.float64) for g in gradients.values()])
        return Estimate(float(norms.sum() if self.norm == "layers" else norms.norm()), 0.0)
