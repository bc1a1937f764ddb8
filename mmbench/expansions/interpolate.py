"""`interpolate`: every block repeated in place, block l' continues block floor(l' L / L') (Chang et al., 2018)."""

from __future__ import annotations

from mmbench.expansions.base import EXPANSIONS
from mmbench.expansions.depth import Repeating


@EXPANSIONS.register("interpolate")
class Interpolate(Repeating):
    """1 2 3 becomes 1 1 2 2 3 3."""

    def index(self, place: int, old: int, new: int) -> int:
        """Evenly spread."""
        return place * old // new
