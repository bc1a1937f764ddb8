"""Worst-case sharpness: the largest rise of the loss within a ball, searched for in many steps.

On a batch B of m images, max over ||e / c|| <= rho of L_B(w + e) - L_B(w), averaged over disjoint batches. Here c = 1,
or |w| if adaptive, the norm is l2 or linf, and Auto-PGD (Croce and Hein, 2020) searches for the maximum, so the value
is a lower bound of it. The definition and its variants are those of Andriushchenko et al. (2023), who found that the
sign depends on the setting. In theory flat minima generalise better, so the expected sign is -1.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field

from mmbench.landscape.apgd import Ball, largest_loss
from mmbench.metrics._options import Batched
from mmbench.metrics._perturbed import Perturbed
from mmbench.metrics.base import METRICS, Estimate, mean_and_error
from mmbench.metrics.subject import Subject


@METRICS.register("worst_case_sharpness")
class WorstCaseSharpness(Perturbed, Batched):
    """Worst-case m-sharpness in evaluation mode; the standard error is over the batches."""

    expected_sign = -1

    rho: float = Field(0.05, gt=0)
    """Radius of the ball, in parameter units, or in units of |w| if adaptive; linf needs a much smaller one."""
    norm: Literal["l2", "linf"] = "l2"
    """Of the ball: Euclidean, or the largest change of any weight."""
    steps: int = Field(20, ge=1)
    """Steps of the search, each one gradient."""
    restarts: int = Field(1, ge=1)
    """Searches per batch: the first from the network itself, the others from random points on the ball's boundary."""

    def measure(self, subject: Subject) -> Estimate:
        """Mean rise of the loss in nats."""
        surface, scale = self.perturbed(subject)
        ball, generator, rises = Ball(self.rho, self.norm, scale), subject.generator(self.name), []
        for batch in surface.batches(self.batch_size):
            loss, most = largest_loss(batch, ball, self.steps)
            for _ in range(self.restarts - 1):
                most = max(most, largest_loss(batch, ball, self.steps, ball.somewhere(surface.point, generator))[1])
            rises.append(most - loss)
        return Estimate(*mean_and_error(torch.tensor(rises, dtype=torch.float64)))
