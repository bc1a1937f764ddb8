"""How far the first k steps of the recipe move the weights: ||w_k - w_0||_2, where w_0 are those just expanded.

For growth, the reference of "distance from initialisation" is the network as the expansion left it. A short way from
the initialisation bounds the generalisation gap (Nagarajan and Kolter, 2019; Neyshabur et al., 2019), so the expected
sign is -1. It is theory of the way to the end of training, here read early; a network that has much to learn moves far,
too. Parameters count, running statistics do not.
"""

from __future__ import annotations

import torch

from mmbench.metrics._options import Trained
from mmbench.metrics.base import METRICS, Estimate
from mmbench.metrics.subject import Subject


@METRICS.register("distance_from_expansion")
class DistanceFromExpansion(Trained):
    """Euclidean distance after k steps; one order of the images is one draw, so there is no standard error."""

    expected_sign = -1

    def measure(self, subject: Subject) -> Estimate:
        """The distance, in parameter units; the training is the one of `loss_after_k_steps`."""
        trained = subject.in_state("trained", self.steps, self.training)
        pairs = zip(trained.network().parameters(), subject.network().parameters(), strict=True)
        moves = [
            torch.linalg.vector_norm(after.detach().double() - before.detach().double()) for after, before in pairs
        ]
        return Estimate(float(torch.stack(moves).norm()), None)
