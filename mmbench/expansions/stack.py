"""`stack`: the blocks again from the first on, block l' continues block l' mod L (Gong et al., 2019, StackBERT)."""

from __future__ import annotations

from mmbench.expansions.base import EXPANSIONS
from mmbench.expansions.depth import Repeating


@EXPANSIONS.register("stack")
class Stack(Repeating):
    """1 2 3 becomes 1 2 3 1 2 3."""

    def index(self, place: int, old: int, new: int) -> int:
        """Round and round."""
        return place % old
