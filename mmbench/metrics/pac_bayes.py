"""PAC-Bayes flatness: log(1 / sigma*^2), where sigma* is the largest noise that costs little accuracy.

sigma* is the largest standard deviation sigma with E over u ~ N(0, sigma^2 I) of acc(w) - acc(w + u) <= 0.1 on the
training images (Jiang et al., 2020, eq. 53; their 1 / sigma*^2 is the exponential of this score, whose error is about
the same at all sizes). A network that tolerates much noise is flat, and flat networks are thought to generalise better,
so the expected sign is -1. Running statistics of normalisation layers do not change.
"""

from __future__ import annotations

from torch import Tensor

from mmbench.metrics._pac_bayes import PacBayes
from mmbench.metrics.base import METRICS


@METRICS.register("pac_bayes")
class PacBayesFlatness(PacBayes):
    """log(1 / sigma*^2) for the same noise on all weights; the standard error is over the pairs of draws."""

    expected_sign = -1

    def spread(self, weights: Tensor, sigma: float) -> float:
        """sigma itself."""
        return sigma
