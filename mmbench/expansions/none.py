"""The control `none`: the base model itself, trained further with the same budget as every expansion."""

from __future__ import annotations

from mmbench.data.base import InputShape
from mmbench.expansions.base import EXPANSIONS, Expansion, Filled, Growth, Target
from mmbench.models.base import Architecture


@EXPANSIONS.register("none")
class NoExpansion(Expansion):
    """No expansion: how much is gained by training the base model longer?"""

    preserves = "exact"
    arm = "control"

    def target(self, base: Architecture, shape: InputShape) -> Target:
        """The base architecture."""
        return Target(base, "none", 1.0)

    def fill(self, growth: Growth) -> Filled:
        """The base model's own state."""
        yield from growth.small.items()
