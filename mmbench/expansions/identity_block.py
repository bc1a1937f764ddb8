"""`identity_block`: insert residual blocks whose output is zero (LLaMA Pro, Wu et al., 2024, arXiv:2401.02415).

A new block is freshly initialised, then the parameters that write into the residual stream are set to zero, biases and
shifts included, so that the block is the identity. Only the output is zeroed: the block's other weights receive
gradients from the second step on. In a post-activation ResNet the identity also needs the ReLU that follows it, which
leaves the (non-negative) stream as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from mmbench.expansions.base import Growth, Sized
from mmbench.registry import EXPANSIONS

if TYPE_CHECKING:
    from mmbench.expansions.base import State


@EXPANSIONS.register("identity_block")
class IdentityBlock(Sized):
    """More residual blocks, silent at first."""

    preserves = "exact"

    axis: Literal["depth"] = "depth"
    """Depth only."""
    position: Literal["interleave", "top"] = "interleave"
    """New blocks spread among the old ones, or all after the last of their stage."""

    def arrange(self, old: list[str], new: list[str]) -> list[str | None]:
        """`interleave` shares the new blocks out, each old block followed by its share; the first is always old."""
        if self.position == "top":
            return super().arrange(old, new)
        count = len(new)
        starts = {-(-i * count // len(old)): block for i, block in enumerate(old)}
        return [starts.get(position) for position in range(count)]

    def fill(self, growth: Growth) -> State:
        """Old tensors at their new places, fresh ones in new blocks, zeros where a new block writes."""
        state = {}
        for name, fresh in growth.fresh.items():
            source = growth.source[name]
            state[name] = fresh if source is None else growth.small[source]
            if name in growth.silent:
                state[name] = fresh.new_zeros(fresh.shape)
        return state
