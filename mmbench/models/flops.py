"""Counting the floating-point operations of a network."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel


def count_flops(network: nn.Module, images: Tensor) -> int:
    """Floating-point operations of one forward pass, as the network at hand makes it; a multiply-add counts as two.

    Convolutions, matrix products and attention count; what works entry by entry (norms, activations) does not.
    """
    from torch.utils.flop_counter import FlopCounterMode

    # Fused attention is not counted on every device; as plain products it is.
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        network(images)
    return int(counter.get_total_flops())
