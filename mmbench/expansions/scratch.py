"""The control `scratch`: the larger network freshly initialised, trained with the same budget as every expansion.

In a first study it beat the best expansion more often than not, so no table is honest without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from mmbench.expansions.base import Growth, Sized
from mmbench.registry import EXPANSIONS

if TYPE_CHECKING:
    from mmbench.expansions.base import State


@EXPANSIONS.register("scratch")
class Scratch(Sized):
    """A fresh large network; nothing is inherited."""

    preserves = "no"
    arm = "control"

    axis: Literal["width", "hidden", "depth"] = "width"
    """What is larger than in the base model: all channels, the blocks' hidden units, or the number of blocks."""

    def fill(self, growth: Growth) -> State:
        """The larger network's own initialisation."""
        return growth.fresh
