"""Relative flatness of the classifier (Petzka et al., 2021): its Hessian, weighted by its weights.

    kappa = sum over classes s, t of <w_s, w_t> tr H_st,

where w_s are the rows of the last linear layer and H_st the block of the loss's Hessian for the rows s and t. For the
cross-entropy this is exact and in closed form: with features f_n and S_n = diag(p_n) - p_n p_n',

    kappa = mean over images n of |f_n|^2 tr(W' S_n W).

Unlike the trace alone it does not change when whole layers are rescaled; it does when single units are. Flat is small,
and should generalise: expected sign -1.
"""

from __future__ import annotations

from pydantic import Field

from mmbench.metrics._activations import classifier
from mmbench.metrics.base import METRICS, Estimate, Metric, mean_and_error
from mmbench.metrics.subject import Subject


@METRICS.register("relative_flatness")
class RelativeFlatness(Metric):
    """kappa of the last linear layer, exact for the images drawn."""

    expected_sign = -1

    images: int = Field(256, ge=1)
    """Training images used."""

    def measure(self, subject: Subject) -> Estimate:
        """kappa in nats; `details.image_stderr` is the error of the choice of images."""
        layer, features, logits = classifier(subject, self.images)
        weight, chance = layer.weight.detach().double(), logits.softmax(1)
        means = chance @ weight  # tr(W' S W) = sum_s p_s |w_s - mean|^2, in which nothing cancels
        spread = (chance * (weight - means[:, None]).square().sum(2)).sum(1)
        value, error = mean_and_error(features.square().sum(1) * spread)
        return Estimate(value, 0.0, details={} if error is None else {"image_stderr": error})
