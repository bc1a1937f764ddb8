"""PAC-Bayes flatness: log(1 / sigma*^2), where sigma* is the largest noise that hardly costs accuracy.

sigma* is the largest sigma with E over u ~ N(0, sigma^2 I) of acc(w) - acc(w + u) <= 0.1 on the training images, sigma
the standard deviation (Jiang et al., 2020, eq. 53, whose 1 / sigma*^2 is this score's exponential; its logarithm has an
error of about the same size everywhere). A network that tolerates much noise is flat, which is held to be good, so the
expected sign is -1. Running statistics of normalisation layers stay as they are.
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
