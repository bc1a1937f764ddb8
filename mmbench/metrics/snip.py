"""SNIP: how much the loss depends on the presence of each connection (Lee et al., 2019; Abdelfattah et al., 2021).

With a mask c on every kernel weight, sum |dL/dc| at c = 1, which is sum |w dL/dw|; L is the mean cross-entropy. Only
the weights of linear layers and convolutions count, not biases, normalisation layers or position tables. Many sensitive
connections are thought to be good, so the expected sign is +1. With `batch_norm = batch` it is the score of Abdelfattah
et al.'s code; Lee et al. divide each weight's share by the sum, which says nothing about a whole network.
"""

from __future__ import annotations

from mmbench.metrics._proxy import OnOneBatch, kernels
from mmbench.metrics.base import METRICS, Estimate
from mmbench.metrics.subject import Subject


@METRICS.register("snip")
class SNIP(OnOneBatch):
    """Summed connection sensitivity in evaluation mode; exact, given the images."""

    expected_sign = 1

    def look(self, subject: Subject) -> Estimate:
        """Sum of |w dL/dw| in nats."""
        subject = subject.plain
        gradients = self.gradients(subject)
        weights = kernels(self.surface(subject).model)
        return Estimate(sum(float((w.detach() * gradients[k]).abs().sum().double()) for k, w in weights.items()), 0.0)
