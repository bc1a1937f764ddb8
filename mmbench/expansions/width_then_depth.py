"""`width_then_depth`: a width operator, then a depth operator. Both keep the function, and so does their composition.

It can also meet budgets that are out of reach for depth alone, whose steps are coarse: with `axis=hidden` a deeper
network gets the remaining parameters as hidden units.
"""

from __future__ import annotations

from typing import Any, Literal, cast

from pydantic import Field

from mmbench.data.base import InputShape
from mmbench.expansions.base import EXPANSIONS, Expansion, Filled, Growth, Target
from mmbench.expansions.budget import LARGEST_FACTOR
from mmbench.expansions.sized import Sized
from mmbench.models.base import Architecture
from mmbench.registry import Component


@EXPANSIONS.register("width_then_depth")
class WidthThenDepth(Sized):
    """Two exact operators, one after the other."""

    preserves = "exact"

    axis: Literal["width", "stream", "hidden", "heads", "head_dim"] = "width"
    """What the width operator grows."""
    width: Literal["net2wider", "zero_pad", "hypercloning", "lemon"] = "net2wider"
    """The width operator, with its default options."""
    depth: Literal["identity_block", "net2deeper"] = "identity_block"
    """The depth operator, with its default options: net2deeper for an MLP, identity_block for all others."""
    depth_factor: float = Field(2.0, gt=1, le=LARGEST_FACTOR)
    """Multiplies the blocks per stage."""
    solve: Literal["width", "depth"] = "width"
    """Which of the two factors a budget solves for; the other is fixed."""

    def describe(self) -> dict[str, Any]:
        """The options that the result depends on: without the tolerance and without the factor that is solved for."""
        plain = {**Component.describe(self)}
        solved = [] if self.budget is None else ["factor" if self.solve == "width" else "depth_factor"]
        if self.match is not None and self.solve == "depth":
            solved = ["depth_factor"]
        return {key: value for key, value in plain.items() if key not in ("tolerance", *solved)}

    @property
    def label(self) -> str:
        """Size, both operators, and the factor that is not solved for."""
        fixed = f"depth f={self.depth_factor:g}" if self.solve == "width" else f"width f={self.factor:g}"
        return f"{super().label} {self.width}, {self.depth}, {fixed}"

    def target(self, base: Architecture, shape: InputShape) -> Target:
        """The architecture after the second step."""
        architecture = self.steps(base, shape)[-1][1]
        factor = self.factor
        if self.goal(base, shape) is not None and self.solve == "width":
            factor = round(architecture.extent(self.axis) / base.extent(self.axis), 4)
        return Target(architecture, f"{self.axis}+depth", factor)

    def steps(self, base: Architecture, shape: InputShape) -> list[tuple[Expansion, Architecture]]:
        """The width operator, then the depth operator."""
        wider = self._part(self.width, axis=self.axis)
        deeper = self._part(self.depth)
        for part in (wider, deeper):
            part.refuse_other_families(base)
        goal = self.goal(base, shape)
        if goal is not None and self.solve == "width":
            wide = wider.reach(base, shape, goal, finish=lambda grown: grown.grown("depth", self.depth_factor))
        else:
            wide = base.grown(self.axis, self.factor)
        wide = wider.settled(base, wide, shape)
        if goal is not None and self.solve == "depth":
            deep = deeper.reach(wide, shape, goal, smallest=base.parameters(shape))
        else:
            deep = wide.grown("depth", self.depth_factor)
        return [(wider, wide), (deeper, deeper.settled(wide, deep, shape))]

    def _part(self, name: str, **options: Any) -> Sized:
        return cast("Sized", EXPANSIONS.create({"name": name, "tolerance": self.tolerance, **options}))

    def fill(self, growth: Growth) -> Filled:
        """Never called: each step fills its own network."""
        raise NotImplementedError
