"""The loss of a network on fixed images, as a function of its flat parameter vector."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mmbench.data.base import Split
from mmbench.training.flat import Flat
from mmbench.training.loop import memory_format

CHUNK = 256
"""Images per forward pass; larger passes are no faster on a CPU and take more memory."""


def evaluating(model: nn.Module) -> nn.Module:
    """`model` in evaluation mode, without caches that depend on its weights."""
    for module in model.eval().modules():
        if hasattr(module, "attention_bias_cache"):  # timm caches tables of relative positions in evaluation mode
            module.training = True
    return model


def slopes(logits: Tensor, labels: Tensor) -> Tensor:
    """dL_n / dz_n = p_n - e_y of each image (n, C), in float64: float32 would lose that of a well fitted image."""
    z = logits.double()
    return z.softmax(1) - torch.nn.functional.one_hot(labels, z.shape[1])


class Surface:
    """L(w): mean cross-entropy (nats) of `model` with parameters w on the images, in the model's dtype.

    The model is in evaluation mode, so L is deterministic and images do not affect each other. With `batch_statistics`
    the batch norms use the statistics of the images instead of the running ones, as is needed at a point that was never
    trained (Frankle et al., 2020; Jordan et al., 2023, REPAIR); all images then go through in one pass.
    """

    def __init__(self, model: nn.Module, images: Split, batch_statistics: bool = False) -> None:
        # Weights in contiguous order, so that points of different surfaces agree; images in the fastest memory format.
        self.model = evaluating(model).to(memory_format=torch.contiguous_format)
        self.flat = Flat(model)
        self.images = type(images)(images.images.contiguous(memory_format=memory_format(model)), images.labels)
        self.chunk = len(images) if batch_statistics else CHUNK
        if batch_statistics:
            for module in model.modules():
                if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                    module.train()

    @property
    def point(self) -> Tensor:
        """w (P,), which shares memory with the model: writing into it changes the model."""
        return self.flat.vector

    def chunks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Images and labels in pieces, each for one forward pass."""
        if len(self.images) <= self.chunk:
            return iter([(self.images.images, self.images.labels)])
        return zip(self.images.images.split(self.chunk), self.images.labels.split(self.chunk), strict=True)

    def chunk_losses(self) -> Iterator[Tensor]:
        """The share of L of each chunk of images, with a graph; the shares add up to L.

        In float64 from the logits on: float32 would lose the slope p - 1 of a well fitted image.

        Yields:
            Scalars in nats, float64.
        """
        count = len(self.images)
        for images, labels in self.chunks():
            mean = cross_entropy(self.model(images).double(), labels)
            yield mean if len(labels) == count else mean * (len(labels) / count)

    def on(self, images: Split) -> Surface:
        """The same network's loss on other images; both share one point."""
        surface = copy.copy(self)
        surface.images = images
        return surface

    def batches(self, size: int) -> Iterator[Surface]:
        """The loss on disjoint batches; images that do not fill a batch are left out.

        (Sharpness depends on the batch size, so a smaller last batch would not be comparable.)

        Args:
            size: images of a batch; all images are one batch if there are fewer.

        Yields:
            Surfaces that share the point of this one.
        """
        for first in range(0, max(1, len(self.images) - size + 1), size):
            batch = slice(first, first + size)
            yield self.on(type(self.images)(self.images.images[batch], self.images.labels[batch]))

    def logits(self) -> Tensor:
        """(N, classes) at the point, without a graph."""
        with torch.no_grad():
            return torch.cat([self.model(images) for images in self.images.images.split(self.chunk)])

    def image_losses(self) -> Tensor:
        """Cross-entropy of each image (N,) at the point, float64."""
        return cross_entropy(self.logits().double(), self.images.labels, reduction="none")

    def loss(self) -> float:
        """L at the point."""
        with torch.no_grad():
            return sum(share.item() for share in self.chunk_losses())

    def loss_and_gradient(self) -> tuple[float, Tensor]:
        """L and its gradient (P,) at the point."""
        loss, total = 0.0, None
        for share in self.chunk_losses():
            gradient = self.flat.join(torch.autograd.grad(share, self.flat.parameters, materialize_grads=True))
            total = gradient if total is None else total.add_(gradient)
            loss += share.item()
        assert total is not None
        return loss, total
