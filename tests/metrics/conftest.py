"""A network for which most quantities are known in closed form."""

from __future__ import annotations

import torch
from torch import nn

from mmbench.testing.networks import SHAPE


class Linear(nn.Module):
    """Softmax regression whose weights are zero."""

    def __init__(self, pixels: int = 64, classes: int = SHAPE.classes, bias: bool = False) -> None:
        super().__init__()
        self.head = nn.Linear(pixels, classes, bias=bias, dtype=torch.float64)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.head(pixels.flatten(1))
