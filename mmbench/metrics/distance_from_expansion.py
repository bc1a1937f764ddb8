"""How far the first k training steps move the weights: ||w_k - w_0||_2, where w_0 are the weights just expanded.

For growth, the reference point of "distance from initialisation" is the expanded network. A short distance bounds the
generalisation gap (Nagarajan and Kolter, 2019; Neyshabur et al., 2019), so the expected sign is -1. That theory is
about the end of training, and here the distance is measured early; a network with much to learn moves far, too.
Parameters count, running statistics do not.
"""

from __future__ import annotations

import torch

from mmbench.metrics._options import Trained
from mmbench.metrics.base import METRICS, Estimate
from mmbench.metrics.subject import Subject


@METRICS.register("distance_from_expansion")
class DistanceFromExpansion(Trained):
    """Euclidean distance after k steps; no standard error, since one order of the images is a single draw."""

    expected_sign = -1

    def measure(self, subject: Subject) -> Estimate:
        """The distance, in parameter units; the training is shared with `loss_after_k_steps`."""
        trained = subject.in_state("trained", self.steps, self.training)
        pairs = zip(trained.network().parameters(), subject.network().parameters(), strict=True)
        moves = [
            torch.linalg.vector_norm(after.detach().double() - before.detach().double()) for after, before in pairs
        ]
        return Estimate(float(torch.stack(moves).norm()), None)
