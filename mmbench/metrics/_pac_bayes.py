"""What both PAC-Bayes flatness measures share: the search for the noise that a network tolerates."""

from __future__ import annotations

import math
from abc import abstractmethod

from pydantic import Field
from torch import Tensor

from mmbench.landscape.flatness import tolerated_noise
from mmbench.metrics.base import Estimate, Metric
from mmbench.metrics.subject import Subject


class PacBayes(Metric):
    """log(1 / sigma*^2), where sigma* is the largest noise that costs at most `drop` of the training accuracy.

    The standard error is that of sigma* over the pairs of draws, from the slope of the accuracy in log sigma. If the
    accuracy never falls by that much (an untrained network at chance level), sigma* is the upper limit of the search,
    16; if it always does, the lower limit, 2^-20. There is no standard error in these cases.
    """

    drop: float = Field(0.1, gt=0, lt=1)
    """Accuracy that the noise may cost on average."""
    pairs: int = Field(8, ge=1)
    """Pairs of opposite draws to average over; each value of sigma costs two forward passes per pair."""
    images: int = Field(256, ge=1)
    """Training images that the accuracy is taken on."""

    @abstractmethod
    def spread(self, weights: Tensor, sigma: float) -> Tensor | float:
        """Standard deviation of the noise on each weight (P,), or one for all weights."""

    def measure(self, subject: Subject) -> Estimate:
        """In units of log 1 / sigma^2; `details` has sigma and how the search ended."""
        surface, generator = subject.surface(self.images), subject.generator(self.name)
        weights = surface.point.clone()
        noise = tolerated_noise(surface, lambda sigma: self.spread(weights, sigma), self.drop, self.pairs, generator)
        return Estimate(
            -2 * math.log(noise.sigma),
            None if noise.log_stderr is None else 2 * noise.log_stderr,
            details={
                "sigma": noise.sigma,
                "accuracy": noise.accuracy,
                "accuracy_drop": noise.drop,
                "limit": float(noise.limit),
                "searched": float(noise.searched),
            },
        )
