"""Floating-point operations of a network's forward pass.

Convolutions, matrix products, attention and recurrent layers count, a multiply-add as two operations. Element-wise
operations (norms, activations) do not count.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from mmbench.data.base import InputShape
from mmbench.models.base import Architecture
from mmbench.models.skeleton import skeleton


def count_flops(network: nn.Module, images: Tensor) -> int:
    """Operations of one forward pass of the given network on `images` (N, C, H, W), on any device, meta included."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False, custom_mapping=_PRODUCTS) as counter, torch.no_grad(), unfused():
        network(images)
    return int(counter.get_total_flops())


@contextmanager
def unfused() -> Iterator[None]:
    """Compute attention and recurrent layers by plain matrix products, which can be counted."""
    libraries: tuple[Any, ...] = (torch.backends.mkldnn, torch.backends.cudnn)
    before, fast = [library.enabled for library in libraries], torch.backends.mha.get_fastpath_enabled()
    try:
        for library in libraries:
            library.enabled = False
        torch.backends.mha.set_fastpath_enabled(False)
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        for library, enabled in zip(libraries, before, strict=True):
            library.enabled = enabled
        torch.backends.mha.set_fastpath_enabled(fast)


def _matrix_vector(matrix: Any, *_: Any, **__: Any) -> int:
    return 2 * int(prod(matrix))


def _added_matrix_vector(bias: Any, matrix: Any, *_: Any, **__: Any) -> int:
    return 2 * int(prod(matrix))


def _added_products(bias: Any, a: Any, b: Any, *_: Any, **__: Any) -> int:
    return 2 * int(prod(a)) * int(b[-1])


def _bilinear(a: Any, weight: Any, *_: Any, **__: Any) -> int:
    """x1' W x2 for each output of `nn.Bilinear`: first W x2, then the product with x1."""
    outputs, first, second = weight
    return 2 * int(prod(a) // first * outputs * first * (second + 1))


_PRODUCTS = {
    torch.ops.aten.mv: _matrix_vector,
    torch.ops.aten.dot: _matrix_vector,
    torch.ops.aten.addmv: _added_matrix_vector,
    torch.ops.aten.addbmm: _added_products,
    torch.ops.aten._trilinear: _bilinear,
}
"""Operations from shapes, for products that torch does not count."""


@lru_cache(maxsize=64)
def flops(architecture: Architecture, shape: InputShape) -> int:
    """Operations of the forward pass of one image of that shape; no network with values is built."""
    image = torch.empty(1, shape.channels, shape.image_size, shape.image_size, device="meta")
    return count_flops(skeleton(architecture, shape).eval(), image)
