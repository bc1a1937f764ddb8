"""Norm of the trainable parameters: ||w||_2, biases and normalisation layers included.

Bounds on the generalisation gap grow with the norm of the weights (Neyshabur et al., 2015), so the expected sign is -1.
The norm also grows with the size of the network. It is not invariant under rescalings that keep the function (of a ReLU
unit, or of weights before a normalisation layer).
"""

from __future__ import annotations

import torch

from mmbench.metrics.base import METRICS, Estimate, Metric
from mmbench.metrics.subject import Subject


@METRICS.register("l2_norm")
class L2Norm(Metric):
    """Euclidean norm of the parameter vector; exact."""

    expected_sign = -1

    def measure(self, subject: Subject) -> Estimate:
        """The norm, in parameter units."""
        trainable = [p.detach() for p in subject.network().parameters() if p.requires_grad]
        norms = [torch.linalg.vector_norm(p, dtype=torch.float64) for p in trainable]
        return Estimate(float(torch.stack(norms).norm()), 0.0)
