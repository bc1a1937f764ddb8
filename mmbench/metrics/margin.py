"""Output margin: the 10th percentile over images of z_y - max over j != y of z_j, logits z and label y.

A large margin on the training images is associated with a small generalisation gap (Jiang et al., 2019; 1 / margin^2 is
a complexity measure in Jiang et al., 2020), so the expected sign is +1. A percentile replaces the minimum, which a
single image would decide. The logits are not normalised: scaling the last layer scales the margin.
"""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field
from scipy.special import betainc
from torch import Tensor

from mmbench.metrics.base import METRICS, Estimate, Metric
from mmbench.metrics.subject import Subject


@METRICS.register("margin")
class Margin(Metric):
    """Percentile of the margins of training images, negative where they are misclassified; error over the images."""

    expected_sign = 1

    percentile: float = Field(10.0, gt=0, lt=100)
    """Percentile of the margins."""
    images: int = Field(256, ge=1)
    """Training images used."""

    def measure(self, subject: Subject) -> Estimate:
        """The margin, in logits."""
        surface = subject.surface(self.images)
        logits, labels = surface.logits().double(), surface.images.labels[:, None]
        rivals = logits.scatter(1, labels, -torch.inf).amax(1)
        margins = logits.gather(1, labels)[:, 0] - rivals
        share = self.percentile / 100
        return Estimate(float(margins.quantile(share)), _error(margins, share))


def _error(values: Tensor, share: float) -> float | None:
    """Standard error of a quantile: the exact bootstrap's (Maritz and Jarrett, 1978)."""
    n = len(values)
    if n == 1:
        return None
    rank = int(n * share + 0.5) or 1
    weights = np.diff(betainc(rank, n - rank + 1, np.linspace(0, 1, n + 1)))
    sorted_ = values.sort().values.cpu().numpy()
    return float(np.sqrt(weights @ (sorted_ - weights @ sorted_) ** 2))
