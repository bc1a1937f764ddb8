"""Floating-point operations of the forward pass of one image, a multiply-add counted as two. Expected sign +1.

Convolutions, matrix products and attention count; what works entry by entry (norms, activations) does not. Next to the
parameters the second trivial rival: an operator that adds few weights in early layers adds many operations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmbench.metrics.base import Estimate, Metric
from mmbench.registry import METRICS

if TYPE_CHECKING:
    from mmbench.metrics.subject import Subject


@METRICS.register("flops")
class Flops(Metric):
    """Operations counted as the network at hand makes them, exactly."""

    expected_sign = 1

    def measure(self, subject: Subject) -> Estimate:
        """Count."""
        import torch
        from torch.nn.attention import SDPBackend, sdpa_kernel
        from torch.utils.flop_counter import FlopCounterMode

        # Fused attention is not counted on every device; as plain products it is.
        with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            subject.network()(subject.train.images[:1])
        return Estimate(float(counter.get_total_flops()), 0.0)
