"""`identity_block`: insert residual blocks whose output is zero (LLaMA Pro, Wu et al., 2024, arXiv:2401.02415).

The parameters of a new block that write into the residual stream are set to zero, with their biases and shifts, so that
the block is the identity. Only these are zero, so that the block's other weights receive gradients from the second step
on. In a post-activation ResNet a ReLU follows the block; it does not change the stream, which is not negative there.
"""

from __future__ import annotations

from typing import Literal

from mmbench.expansions.base import EXPANSIONS, Filled, Growth
from mmbench.expansions.depth import Deepening
from mmbench.models.base import interleaved
from mmbench.models.table import Table


@EXPANSIONS.register("identity_block")
class IdentityBlock(Deepening):
    """More residual blocks, which are the identity before training."""

    preserves = "exact"

    position: Literal["interleave", "top"] = "interleave"
    """New blocks spread among the old ones, or all after the last of their stage."""
    content: Literal["fresh", "copy"] = "fresh"
    """The parameters of a new block that are not zero: freshly initialised, or copied from the block before it (where
    that has the same shapes)."""

    def arrange(self, old: list[str], new: list[str], tables: tuple[Table, Table]) -> list[str | None]:
        """`interleave` puts new blocks evenly among the old ones, `top` puts them after the last.

        Args:
            old: the small network's blocks of the stage, in forward order.
            new: the larger network's.
            tables: the axis tables of both.

        Returns:
            For each block in `new` the block in `old` that it continues, or None.
        """
        if self.position == "top":
            return super().arrange(old, new, tables)
        return [None if origin is None else old[origin] for origin in interleaved(len(old), len(new))]

    def fill(self, growth: Growth) -> Filled:
        """Old blocks at their new places; new blocks with fresh or copied tensors, and zeros where they write."""
        before: dict[str, str] = {}
        origin = ""
        for block, old in growth.arrangement.items():
            origin = old or origin
            before[block] = origin
        silencers = {f".{name}" for name in growth.target.silencers()}
        for name, fresh in growth.fresh.items():
            source = growth.source(name)
            block, rest = growth.place(name)
            if source is not None:
                yield name, growth.small[source]
            elif rest in silencers:
                yield name, fresh.zero_()
            else:
                copy = growth.small.get(before[block] + rest) if self.content == "copy" else None
                yield name, copy if copy is not None and copy.shape == fresh.shape else fresh
