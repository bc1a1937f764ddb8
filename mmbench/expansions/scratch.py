"""The control `scratch`: the larger network freshly initialised, trained with the same budget as every expansion.

In a first study it beat the best expansion in most cases, so every table needs it.
"""

from __future__ import annotations

from typing import Literal

from mmbench.data.base import InputShape
from mmbench.expansions.base import EXPANSIONS, Arrangement, Filled, Growth
from mmbench.expansions.placing import counterparts
from mmbench.expansions.sized import Sized
from mmbench.models.base import Architecture
from mmbench.models.plain import Plain


@EXPANSIONS.register("scratch")
class Scratch(Sized):
    """A fresh large network, which inherits nothing from the small one."""

    preserves = "no"
    arm = "control"
    inherits = False

    axis: Literal["width", "first", "convolutions", "stream", "hidden", "heads", "head_dim", "depth", "kernel"] = (
        "width"
    )
    """What is larger than in the base model: all channels, those of the first layer, of the convolutions or of the
    residual stream, the units inside the blocks, the attention heads, the channels of each head, the number of blocks,
    or the convolution kernels."""

    def arrangement(self, base: Architecture, target: Architecture, shape: InputShape) -> Arrangement:
        """The layers' counterparts, whose frozen parameters stay frozen; in a deeper plain network, by their widths.

        Args:
            base: the small architecture.
            target: the larger one.
            shape: what the networks are built for.

        Returns:
            For each block of the larger network its counterpart, or None.
        """
        return counterparts(base, target) if isinstance(base, Plain) else super().arrangement(base, target, shape)

    def fill(self, growth: Growth) -> Filled:
        """The larger network's own initialisation."""
        yield from growth.fresh.items()
