"""`stack`: repeat the sequence of blocks; block l' continues block l' mod L (Gong et al., 2019, StackBERT)."""

from __future__ import annotations

from mmbench.expansions.base import EXPANSIONS
from mmbench.expansions.depth import Repeating


@EXPANSIONS.register("stack")
class Stack(Repeating):
    """1 2 3 becomes 1 2 3 1 2 3."""

    def index(self, place: int, old: int, new: int) -> int:
        """The old blocks in order, again and again.

        Args:
            place: 0 .. new - 1.
            old: number of blocks that can be repeated.
            new: number of places.

        Returns:
            place mod old.
        """
        return place % old
