"""Sharpness as in sharpness-aware minimisation: how far the loss rises within a ball (Foret et al., 2021).

On a batch B of m images, max over ||e|| <= rho of L_B(w + e) - L_B(w), the maximum taken to first order at
e = rho g / ||g||; averaged over disjoint batches (m-sharpness). A flat minimum is held to be good, so the expected sign
is -1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from mmbench.data.base import Split
from mmbench.metrics.base import Estimate, Metric, mean_and_error, subset
from mmbench.registry import METRICS

if TYPE_CHECKING:
    import torch
    from torch import nn


@METRICS.register("sharpness")
class Sharpness(Metric):
    """One-step m-sharpness in evaluation mode; the standard error is over the batches."""

    expected_sign = -1

    rho: float = Field(0.05, gt=0)
    """Radius of the ball, Euclidean, in parameter units."""
    images: int = Field(256, ge=1)
    """Training images used."""
    batch_size: int = Field(64, ge=1)
    """m; at most `images`."""

    @model_validator(mode="after")
    def _batches_fit(self) -> Self:
        if self.batch_size > self.images:
            raise ValueError(
                f"metric.batch_size = {self.batch_size} must not be larger than metric.images = {self.images}"
            )
        return self

    def measure(self, model: nn.Module, data: Split, generator: torch.Generator) -> Estimate:
        """Mean rise of the loss in nats."""
        import torch

        from mmbench.landscape.surface import Surface

        chosen = subset(data, self.images, generator)
        batches = zip(chosen.images.split(self.batch_size), chosen.labels.split(self.batch_size), strict=True)
        surface = Surface(model, chosen)
        start, rises = surface.point.clone(), []
        for images, labels in batches:
            if len(labels) < min(self.batch_size, len(chosen)):
                continue  # a smaller last batch would be sharper for its size alone
            surface.images = Split(images, labels)
            loss, gradient = surface.loss_and_gradient()
            # In float64, since in float32 the squares of a nearly perfect fit's gradient vanish.
            norm = torch.linalg.vector_norm(gradient, dtype=torch.float64).clamp_min(torch.finfo(gradient.dtype).tiny)
            torch.add(start, gradient / norm, alpha=self.rho, out=surface.point)
            rises.append(surface.loss() - loss)
            surface.point.copy_(start)
        return Estimate(*mean_and_error(torch.tensor(rises, dtype=torch.float64)))
