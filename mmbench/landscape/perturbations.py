"""Perturbations of a network (one ascent step, Gaussian noise), and how far they raise the loss."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from mmbench.landscape.surface import Surface

TINY = 1e6
"""Smallest norm that is returned, in units of the smallest normal number."""
SMALL = 1e-12
"""Smaller norms are computed in float64: near a perfect fit, the gradient's squares underflow in float32."""


def norm(vector: Tensor) -> float:
    """Euclidean norm; at least `TINY` times the smallest normal number, so that a radius may be divided by it."""
    length = float(torch.linalg.vector_norm(vector))
    if not SMALL < length < math.inf:
        length = float(torch.linalg.vector_norm(vector, dtype=torch.float64))
    tiny = torch.finfo(torch.promote_types(vector.dtype, torch.float32)).tiny  # half precision's is 6e-5
    return max(length, TINY * tiny) if math.isfinite(length) else length


def normal(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal draws shaped like `like`, the same in every dtype and on every device."""
    return torch.randn(like.shape, generator=generator, dtype=torch.float32).to(like)


class _NormalisedLogits(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits = self.model(images)
        return nn.functional.layer_norm(logits, logits.shape[1:], eps=1e-12)


def with_normalised_logits(surface: Surface) -> Surface:
    """The loss of (f - mean f) / sqrt(mean (f - mean f)^2), means over the classes; it shares the surface's point."""
    normalised = copy.copy(surface)
    normalised.model = _NormalisedLogits(surface.model)
    return normalised


def one_step_rises(surface: Surface, size: int, rho: float, scale: Tensor | None = None) -> Tensor:
    """How far one ascent step raises the loss of each disjoint batch.

    To first order, the step e = rho T^2 g / ||T g|| maximises L_B(w + e) over ||T^-1 e|| <= rho, with T = diag(scale),
    or the identity.

    Args:
        surface: the loss L; its point is restored afterwards.
        size: images of a batch B.
        rho: radius of the ball, in parameter units or those of the scale.
        scale: (P,).

    Returns:
        Rises in nats, (batches,), float64.
    """
    start, rises = surface.point.clone(), []
    for batch in surface.batches(size):
        loss, step = batch.loss_and_gradient()
        if scale is not None:
            step *= scale
        length = norm(step)
        if scale is not None:
            step *= scale
        torch.add(start, step, alpha=rho / length, out=surface.point)
        rises.append(batch.loss() - loss)
        surface.point.copy_(start)
    return torch.tensor(rises, dtype=torch.float64)


def gaussian_rises(
    surface: Surface, sigma: float, size: int, generator: torch.Generator, scale: Tensor | None = None
) -> Iterator[float]:
    """Independent draws without end, unbiased for E[L(w + e)] - L(w) with e ~ N(0, sigma^2 diag(scale)^2).

    A draw costs two forward passes, at w + e and w - e. So the part of the rise that is odd in e cancels, which is most
    of the variance for small e. Each batch has its own noise, so that the errors of the batches average out, too: the
    same normal draws, rolled by random offsets, which are nearly independent if there are many parameters.

    Args:
        surface: the loss L; its point is restored after each draw.
        sigma: standard deviation of the noise, in parameter units or those of the scale.
        size: images of a batch.
        generator: of the noise, on the CPU.
        scale: (P,); 1 if it is not given.

    Yields:
        Rises in nats.
    """
    start, loss, images = surface.point.clone(), surface.loss(), surface.images
    batches = [
        surface.on(type(images)(*batch))
        for batch in zip(images.images.split(size), images.labels.split(size), strict=True)
    ]
    while True:
        noise, total = normal(start, generator), 0.0
        for batch, offset in zip(batches, torch.randint(len(start), (len(batches),), generator=generator), strict=True):
            step = noise.roll(int(offset))
            if scale is not None:
                step *= scale
            for sign in (1, -1):
                torch.add(start, step, alpha=sign * sigma, out=surface.point)
                total += batch.loss() * len(batch.images) / 2
        surface.point.copy_(start)
        yield total / len(images) - loss
