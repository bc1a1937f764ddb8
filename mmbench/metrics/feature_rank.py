"""Feature rank: the effective rank of the features before the classifier (Kumar et al., 2021).

With the singular values s_1 >= s_2 >= ... of the features (N, d) of N images, the inputs of the last linear layer,

    srank = min {k : s_1 + ... + s_k >= (1 - delta) (s_1 + s_2 + ...)}.

Features that collapse to few directions go with a lost ability to learn (Lyle et al., 2022), so the expected sign is
+1. It is at most min(N, d). Copies of units do not raise it. `details.above` is the count of Lyle et al.: singular
values of the features over sqrt(N) above 0.01.
"""

from __future__ import annotations

import torch
from pydantic import Field

from mmbench.errors import ScoreError
from mmbench.metrics._activations import classifier
from mmbench.metrics.base import METRICS, Estimate, Metric
from mmbench.metrics.subject import Subject

ABOVE = 0.01
"""Lyle et al.'s threshold."""


@METRICS.register("feature_rank")
class FeatureRank(Metric):
    """Effective rank of the penultimate features; exact, given the images."""

    expected_sign = 1

    delta: float = Field(0.01, gt=0, lt=1)
    """Share of the sum of the singular values that is left out."""
    images: int = Field(512, ge=1)
    """N, training images used."""

    def measure(self, subject: Subject) -> Estimate:
        """The rank, a whole number; `details` has the number of features and Lyle's count."""
        _, features, _ = classifier(subject, self.images)
        values = torch.linalg.svdvals(features)
        total = float(values.sum())
        if not total > 0:
            raise ScoreError("the network is dead: the features before its classifier are zero for every image")
        enough = values.cumsum(0) >= (1 - self.delta) * total * (1 - 1e-12)
        above = float((values / len(features) ** 0.5 > ABOVE).sum())
        return Estimate(
            float(enough.int().argmax()) + 1, 0.0, details={"features": float(features.shape[1]), "above": above}
        )
