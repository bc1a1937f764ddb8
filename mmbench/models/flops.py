"""Floating-point operations of a network's forward pass.

Convolutions, matrix products and attention count, a multiply-add as two operations. Element-wise operations (norms,
activations) do not count.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from mmbench.data.base import InputShape
from mmbench.models.base import Architecture
from mmbench.models.skeleton import skeleton


def count_flops(network: nn.Module, images: Tensor) -> int:
    """Operations of one forward pass of the given network on `images` (N, C, H, W), on any device, meta included."""
    from torch.utils.flop_counter import FlopCounterMode

    # Fused attention is not counted on every device; plain matrix products are.
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        network(images)
    return int(counter.get_total_flops())


@lru_cache(maxsize=64)
def flops(architecture: Architecture, shape: InputShape) -> int:
    """Operations of the forward pass of one image of that shape; no network with values is built."""
    image = torch.empty(1, shape.channels, shape.image_size, shape.image_size, device="meta")
    return count_flops(skeleton(architecture, shape).eval(), image)
