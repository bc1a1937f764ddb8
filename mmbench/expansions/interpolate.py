"""`interpolate`: repeat every block in place; block l' continues block floor(l' L / L') (Chang et al., 2018)."""

from __future__ import annotations

from mmbench.expansions.base import EXPANSIONS
from mmbench.expansions.depth import Repeating


@EXPANSIONS.register("interpolate")
class Interpolate(Repeating):
    """1 2 3 becomes 1 1 2 2 3 3."""

    def index(self, place: int, old: int, new: int) -> int:
        """Each old block at consecutive places.

        Args:
            place: 0 .. new - 1.
            old: number of blocks that can be repeated.
            new: number of places.

        Returns:
            floor(place * old / new).
        """
        return place * old // new
