"""The loss of a network on fixed images, as a function of its flat parameter vector."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy

from mmbench.flat import Flat

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

    from mmbench.data.base import Split

CHUNK = 256
"""Images per forward pass; larger passes are no faster on a CPU and take more memory."""


class Surface:
    """L(w): mean cross-entropy (nats) of `model` with parameters w on the images, in the model's dtype.

    The model is in evaluation mode, so L is deterministic and every image counts by itself. With `batch_statistics` its
    batch norms use the statistics of the images at hand instead of their running ones, as they must at a point that was
    never trained (Frankle et al., 2020; Jordan et al., 2023, REPAIR); all images then go through in one pass.
    """

    def __init__(self, model: nn.Module, images: Split, batch_statistics: bool = False) -> None:
        self.model = model.eval()
        self.flat = Flat(model)
        self.images = images
        self.chunk = len(images) if batch_statistics else CHUNK
        if batch_statistics:
            for module in model.modules():
                if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                    module.train()

    @property
    def point(self) -> Tensor:
        """w (P,), the live vector: writing into it moves the model."""
        return self.flat.vector

    def chunk_losses(self) -> Iterator[Tensor]:
        """Per chunk of images its share of L, with a graph; they add up to L."""
        count = len(self.images)
        for images, labels in zip(
            self.images.images.split(self.chunk), self.images.labels.split(self.chunk), strict=True
        ):
            yield cross_entropy(self.model(images), labels, reduction="sum") / count

    def loss(self) -> float:
        """L at the point."""
        with torch.no_grad():
            return float(sum(share.double() for share in self.chunk_losses()))

    def loss_and_gradient(self) -> tuple[float, Tensor]:
        """L and its gradient (P,) at the point."""
        loss, gradient = 0.0, torch.zeros_like(self.point)
        for share in self.chunk_losses():
            gradients = torch.autograd.grad(share, self.flat.parameters, materialize_grads=True)
            gradient += self.flat.join(gradients)
            loss += float(share.detach().double())
        return loss, gradient
