"""Average-case sharpness: E over e ~ N(0, sigma^2 diag(c)^2) of L(w + e) - L(w) (Andriushchenko et al., 2023).

c is 1, or |w| if adaptive. In a smooth network the value tends to sigma^2 / 2 times the trace of diag(c) H diag(c). In
a ReLU network it is larger, by the curvature at the kinks, which no derivative sees. Draws come in pairs of opposite
sign, which cancels the odd part. Each batch of images has its own noise. Draws end once the standard error is small
enough. Flat minima are thought to generalise better, so the expected sign is -1. Negative values mean that the loss
curves downwards.
"""

from __future__ import annotations

import torch
from pydantic import Field

from mmbench.landscape.perturbations import gaussian_rises
from mmbench.metrics._perturbed import Perturbed
from mmbench.metrics.base import METRICS, Estimate, mean_and_error
from mmbench.metrics.subject import Subject

FEWEST = 8
"""Pairs to draw before the standard error may end the draws."""


@METRICS.register("average_sharpness")
class AverageSharpness(Perturbed):
    """Mean rise of the loss under Gaussian noise, in evaluation mode; the standard error is over the pairs."""

    expected_sign = -1

    sigma: float = Field(0.005, gt=0)
    """Standard deviation of the noise, in parameter units, or in units of |w| if adaptive."""
    pairs: int = Field(64, ge=1)
    """Pairs of draws at most; each costs two forward passes."""
    tolerance: float = Field(0.05, ge=0)
    """Draws end once the standard error is at most this fraction of the value; 0 for all pairs."""
    batch_size: int = Field(64, ge=1)
    """Images that share the same noise: with fewer, a pair is more precise and costs more."""

    def measure(self, subject: Subject) -> Estimate:
        """Mean rise of the loss in nats; `details` has the number of pairs."""
        surface, scale = self.perturbed(subject)
        generator, rises = subject.generator(self.name), list[float]()
        for rise in gaussian_rises(surface, self.sigma, self.batch_size, generator, scale):
            rises.append(rise)
            value, stderr = mean_and_error(torch.tensor(rises, dtype=torch.float64))
            small = stderr is not None and len(rises) >= FEWEST and stderr <= self.tolerance * abs(value)
            if small or len(rises) == self.pairs:
                break
        return Estimate(value, stderr, details={"pairs": float(len(rises))})
