"""The Hessian of the loss as a linear operator, by backward over backward passes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from mmbench.landscape.surface import Surface, slopes

KEPT = 4
"""Chunks of images whose graphs are kept between products; with more chunks, graphs are rebuilt for each product."""


class Curvature:
    """v -> H v, or v -> R v with R = H - G, at the surface's current point.

    The Hessian of the mean cross-entropy is H = G + R: the Gauss-Newton matrix G = J' S J, and the rest
    R = sum_nc s_nc Hess z_nc, which weighs the curvature of the logits z by the slope s = dL/dz. The derivative of
    J(w)' s(w) along v is H v; with s held fixed it is R v, and cheaper.

    The graph of J' s is built once and used for every v. Derivatives are backward over backward: forward over forward
    is silently wrong through layer norms. Attention runs unfused, since the fused kernels have no second derivative.
    The surface's point must not move while the operator is in use.
    """

    def __init__(self, surface: Surface, of: Literal["hessian", "rest"] = "hessian") -> None:
        self.surface, self.flat, self.of = surface, surface.flat, of
        self._kept: list[tuple[Tensor, ...]] | None = None

    @property
    def size(self) -> int:
        """P."""
        return len(self.surface.point)

    def __call__(self, vector: Tensor) -> Tensor:
        """The product with `vector` (P,), in the model's dtype."""
        total: Tensor | None = None
        views = self.flat.views(vector)
        for gradients in self._graphs():
            # The gradient may be independent of a parameter (unused, or in a linear network): its rows are zero.
            product = torch.autograd.grad(
                gradients, self.flat.parameters, views, retain_graph=True, materialize_grads=True
            )
            joined = self.flat.join(product)
            total = joined if total is None else total.add_(joined)
        assert total is not None
        return total

    def _graphs(self) -> Iterator[tuple[Tensor, ...]]:
        """The gradient's share from each chunk of images, with a graph."""
        if self._kept is not None:
            yield from self._kept
            return
        keep = len(self.surface.images) <= KEPT * self.surface.chunk
        kept = []
        for images, labels in self.surface.chunks():
            gradients = self._gradients(images, labels)
            if keep:
                kept.append(gradients)
            yield gradients
        if keep:
            self._kept = kept

    def _gradients(self, images: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        with sdpa_kernel(SDPBackend.MATH):
            logits = self.surface.model(images)
            slope = slopes(logits.detach() if self.of == "rest" else logits, labels) / len(self.surface.images)
            gradients = torch.autograd.grad(
                logits, self.flat.parameters, slope.to(logits), create_graph=True, materialize_grads=True
            )
        # Rows of H that are identically zero have no graph.
        return tuple(g if g.requires_grad else g + 0 * p for g, p in zip(gradients, self.flat.parameters, strict=True))


def rademacher(size: int, generator: torch.Generator, like: Tensor) -> Tensor:
    """Independent random signs.

    Args:
        size: how many.
        generator: on the CPU.
        like: a tensor of the wanted dtype and device.

    Returns:
        (size,), each -1 or 1.
    """
    return (torch.randint(0, 2, (size,), generator=generator, dtype=torch.int8) * 2 - 1).to(like)
