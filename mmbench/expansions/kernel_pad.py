"""`kernel_pad`: larger convolution kernels with a zero border (Wei et al., 2016, Network Morphism, arXiv:1603.01670).

The padding of the image grows with the kernel, so the function is the same up to rounding. The new weights receive
gradients from the first step on.
"""

from __future__ import annotations

from typing import Literal

import torch

from mmbench.expansions.base import EXPANSIONS
from mmbench.expansions.widening import Padding
from mmbench.models.table import Axis


@EXPANSIONS.register("kernel_pad")
class KernelPad(Padding):
    """A border of zeros around every kernel inside the blocks; of a CNN, around every kernel."""

    preserves = "exact"
    families = ("cnn", "resnet", "convnext")

    axis: Literal["kernel"] = "kernel"
    """Sides of the kernels only; they stay odd: a factor of 2 turns 3 into 7."""

    def new_entries(self, tensor: torch.Tensor, axes: tuple[Axis, ...], kept: list[torch.Tensor]) -> None:
        """Set all entries to zero.

        Args:
            tensor: of the larger network's shape, its initialisation.
            axes: of the tensor.
            kept: for each axis the positions of the small network's entries.
        """
        tensor.zero_()
