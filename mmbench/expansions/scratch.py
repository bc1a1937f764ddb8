"""The control `scratch`: the larger network freshly initialised, trained with the same budget as every expansion.

In a first study it beat the best expansion in most cases, so every table needs it.
"""

from __future__ import annotations

from typing import Literal

from mmbench.expansions.base import EXPANSIONS, Filled, Growth
from mmbench.expansions.sized import Sized


@EXPANSIONS.register("scratch")
class Scratch(Sized):
    """A fresh large network, which inherits nothing from the small one."""

    preserves = "no"
    arm = "control"

    axis: Literal["width", "stream", "hidden", "heads", "head_dim", "depth", "kernel"] = "width"
    """What is larger than in the base model: all channels, those of the residual stream, the units inside the blocks,
    the attention heads, the channels of each head, the number of blocks, or the convolution kernels."""

    def fill(self, growth: Growth) -> Filled:
        """The larger network's own initialisation."""
        yield from growth.fresh.items()
