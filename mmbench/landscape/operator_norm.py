"""Largest singular value of a layer as a linear operator, on inputs of the size that it sees."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mmbench.landscape.lanczos import Lanczos

STEPS = 500
"""Products with A'A at most."""


def squared_norm(layer: Any, shape: torch.Size, generator: torch.Generator, tolerance: float) -> tuple[float, float]:
    """||A||_2^2 of a linear layer or convolution without its bias, and a bound on the relative error.

    A maps an input of `shape` (1, ...) to the layer's output, with its stride, padding, dilation and groups. If the
    windows do not overlap (linear layers, patches), A repeats its kernel, and the value is exact. Otherwise it comes
    from Lanczos iteration on A'A, from a random start, until the relative residual is at most `tolerance`.

    The Fourier transform of a kernel (Sedghi et al., 2019) would give the norm for an image without borders, as with
    circular but not with zero padding.

    Args:
        layer: linear layer or convolution.
        shape: of one input, (1, ...).
        generator: of the random start, on the CPU.
        tolerance: relative residual at which the iteration ends.

    Returns:
        ||A||_2^2, and the bound; 0 where the value is exact.
    """
    weight = layer.weight.detach()
    if isinstance(layer, nn.Linear) or _apart(layer):
        groups = weight.flatten(1).unflatten(0, (getattr(layer, "groups", 1), -1))
        return float(torch.linalg.matrix_norm(groups, 2).max()) ** 2, 0.0
    start = torch.randn(shape.numel(), generator=generator, dtype=weight.dtype).to(weight.device)
    with torch.no_grad():
        offset = layer(torch.zeros(shape).to(weight))

    def product(vector: Tensor) -> Tensor:
        with torch.enable_grad():
            x = vector.view(shape).requires_grad_()
            y = layer(x)
        (gradient,) = torch.autograd.grad(y, x, y.detach() - offset)
        return gradient.reshape(-1)

    run = Lanczos(product, start)
    for step in range(1, STEPS + 1):
        run.step()
        values, _, residuals = run.ritz(step)
        if residuals[-1] <= tolerance * values[-1]:
            break
    return float(values[-1]), float(residuals[-1] / values[-1]) if values[-1] else 0.0


def _apart(conv: Any) -> bool:
    """Whether no two windows of a convolution share an input, and none reaches beyond the image."""
    reach = [dilation * (size - 1) + 1 for size, dilation in zip(conv.kernel_size, conv.dilation, strict=True)]
    if getattr(conv, "transposed", False):
        return False
    inside = not any(conv.padding) if isinstance(conv.padding, tuple) else conv.padding == "valid"
    return inside and all(step >= size for step, size in zip(conv.stride, reach, strict=True))
