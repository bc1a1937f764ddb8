"""SNIP: how much the loss depends on the presence of each connection (Lee et al., 2019; Abdelfattah et al., 2021).

With a mask c on every kernel weight, sum |dL/dc| at c = 1, which is sum |w dL/dw|; L is the mean cross-entropy. Only
the weights of linear layers and convolutions count, not biases, normalisation layers or position tables. Many sensitive
connections are thought to be good, so the expected sign is +1.
"""

from __future__ import annotations

from pydantic import Field

from mmbench.metrics._proxy import Proxy, is_kernel, kernels
from mmbench.metrics.base import METRICS, Estimate
from mmbench.metrics.subject import Subject


@METRICS.register("snip")
class SNIP(Proxy):
    """Summed connection sensitivity in evaluation mode; exact, given the images."""

    expected_sign = 1

    images: int = Field(256, ge=1)
    """Training images used."""

    def look(self, subject: Subject) -> Estimate:
        """Sum of |w dL/dw| in nats."""
        surface = subject.surface(self.images)
        kernels(surface.model)
        _, gradient = subject.once(("gradient", self.images), surface.loss_and_gradient)
        pairs = zip(surface.model.named_parameters(), surface.flat.views(gradient), strict=True)
        return Estimate(
            sum(float((w.detach() * g).abs().sum().double()) for (name, w), g in pairs if is_kernel(name, w)), 0.0
        )
