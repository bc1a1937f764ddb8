"""Magnitude-aware PAC-Bayes flatness: log(1 / sigma*^2) for noise proportional to each weight.

sigma* is the largest sigma with E over u_i ~ N(0, sigma^2 w_i^2 + eps^2) of acc(w) - acc(w + u) <= 0.1 on the training
images (Jiang et al., 2020, eq. 61; their 1 / sigma*^2 is the exponential of this score). Apart from eps, proportional
noise makes it invariant under rescaling of layers. Flat networks are thought to generalise better, so the expected sign
is -1. Running statistics of normalisation layers do not change.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from mmbench.metrics._pac_bayes import PacBayes
from mmbench.metrics.base import METRICS


@METRICS.register("pac_bayes_magnitude")
class PacBayesMagnitude(PacBayes):
    """log(1 / sigma*^2) for noise proportional to the weights; the standard error is over the pairs of draws."""

    expected_sign = -1

    epsilon: float = Field(1e-3, ge=0)
    """eps, the standard deviation of the noise on a weight at zero."""

    def spread(self, weights: Tensor, sigma: float) -> Tensor:
        """sqrt(sigma^2 w^2 + eps^2)."""
        return (weights * sigma).square_().add_(self.epsilon**2).sqrt_()
