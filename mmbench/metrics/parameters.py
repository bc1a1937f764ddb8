"""Number of trainable parameters: the first thing that any claim must beat. Expected sign +1."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmbench.metrics.base import Estimate, Metric
from mmbench.registry import METRICS

if TYPE_CHECKING:
    import torch
    from torch import nn

    from mmbench.data.base import Split


@METRICS.register("parameters")
class Parameters(Metric):
    """P, exactly."""

    expected_sign = 1

    def measure(self, model: nn.Module, data: Split, generator: torch.Generator) -> Estimate:
        """Count."""
        return Estimate(sum(p.numel() for p in model.parameters()), 0.0)
