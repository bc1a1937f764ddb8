"""`width_then_depth`: a width operator, then a depth operator. Both keep the function, and so does their composition.

It can also meet budgets that are out of reach for depth alone, whose steps are coarse: with `axis=hidden` a deeper
network gets the remaining parameters as hidden units.

With `to` it reaches any larger architecture of the family. A plain network's new layer may then be wider than the layer
that it follows: it is inserted as wide as that layer, and a third step, the width operator again, widens it.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal, cast

from pydantic import Field

from mmbench.data.base import InputShape
from mmbench.expansions.base import EXPANSIONS, Expansion, Filled, Growth, Target
from mmbench.expansions.budget import LARGEST_FACTOR
from mmbench.expansions.exact import changed, ratio
from mmbench.expansions.sized import Sized
from mmbench.models.base import Architecture
from mmbench.models.plain import Plain, aligned, origins
from mmbench.registry import Component

Steps = list[tuple[Expansion, Architecture]]


class TwoSteps(Sized):
    """Base of the compositions of a width and a depth operator."""

    preserves = "exact"

    axis: Literal["width", "first", "convolutions", "stream", "hidden", "heads", "head_dim"] = "width"
    """What the width operator grows."""
    depth_factor: float = Field(2.0, gt=1, le=LARGEST_FACTOR)
    """Multiplies the blocks per stage."""
    solve: Literal["width", "depth"] = "width"
    """Which of the two factors a budget solves for; the other is fixed."""

    @abstractmethod
    def wider(self) -> Sized:
        """The width operator."""

    @abstractmethod
    def deeper(self, base: Architecture, after: list[int] | None = None) -> Sized:
        """The depth operator.

        Args:
            base: the architecture that grows.
            after: of a plain network, the layers that the new ones follow, one for each.

        Returns:
            The operator.
        """

    def describe(self) -> dict[str, Any]:
        """The options that the result depends on: without the tolerance and without the factor that is solved for."""
        if self.to:
            without = {"depth_factor", "solve"}
            return {key: value for key, value in super().describe().items() if key not in without}
        solved = [] if self.budget is None else ["factor" if self.solve == "width" else "depth_factor"]
        if self.match is not None and self.solve == "depth":
            solved = ["depth_factor"]
        return {
            key: value for key, value in Component.describe(self).items() if key not in ("tolerance", "to", *solved)
        }

    @property
    def operators(self) -> str:
        """Both operators, for the label."""
        return ""

    @property
    def label(self) -> str:
        """Size, both operators, and the factor that is not solved for."""
        if self.to:
            return f"{super().label}{self.operators}"
        fixed = f"depth f={self.depth_factor:g}" if self.solve == "width" else f"width f={self.factor:g}"
        return f"{super().label}{self.operators} {fixed}"

    def reaches(self) -> tuple[str, ...]:
        """Width and depth."""
        return (*self.axes(), "depth")

    def target(self, base: Architecture, shape: InputShape) -> Target:
        """The architecture after the last step."""
        architecture = self.steps(base, shape)[-1][1]
        if self.to:
            return Target(architecture, "+".join(changed(base, architecture)), ratio(base, architecture))
        factor = self.factor
        if self.goal(base, shape) is not None and self.solve == "width":
            factor = round(architecture.extent(self.axis) / base.extent(self.axis), 4)
        return Target(architecture, f"{self.axis}+depth", factor)

    def steps(self, base: Architecture, shape: InputShape) -> Steps:
        """The width operator, then the depth operator."""
        wider, deeper = self.wider(), self.deeper(base)
        for part in (wider, deeper):
            part.refuse_other_families(base)
        if self.to:
            return self._steps_to(base, self.exactly(base), shape)
        goal = self.goal(base, shape)
        if goal is not None and self.solve == "width":
            wide = wider.reach(base, shape, goal, finish=lambda grown: deeper.grown(grown, self.depth_factor))
        else:
            wide = base.grown(self.axis, self.factor)
        wide = wider.settled(base, wide, shape)
        if goal is not None and self.solve == "depth":
            deep = deeper.reach(wide, shape, goal, smallest=base.parameters(shape))
        else:
            deep = deeper.grown(wide, self.depth_factor)
        return [(wider, wide), (deeper, deeper.settled(wide, deep, shape))]

    def _steps_to(self, base: Architecture, target: Architecture, shape: InputShape) -> Steps:
        """The steps to an exact architecture; those that change nothing are left out."""
        deeper = self.deeper(base)
        before, after = base.sizes(), target.sizes()
        if isinstance(base, Plain):
            widths, deepened, follows = _plan(base, target, getattr(self, "after", None))
            wide = super(Plain, base).resized(widths)
            deeper = self.deeper(base, follows)
            goals = [wide, super(Plain, wide).resized({**deepened, **{n: after[n] for n in base.placed}}), target]
        else:
            goals = [target.resized({name: before[name] for name in base.axes["depth"]}), target]
        steps: Steps = []
        last = base
        for part, goal in zip((self.wider(), deeper, self.wider()), goals, strict=False):
            if goal != last:
                last = part.settled(last, goal, shape)
                steps.append((part, last))
        return steps

    def fill(self, growth: Growth) -> Filled:
        """Never called: each step fills its own network."""
        raise NotImplementedError


def _plan(
    base: Plain, target: Architecture, after: tuple[int, ...] | None
) -> tuple[dict[str, Any], dict[str, Any], list[int] | None]:
    """The widths after the first step, those after the second, and the layers that new ones along depth follow."""
    wide: dict[str, Any] = {}
    deep: dict[str, Any] = {}
    follows: list[int] | None = None
    for name in base.plain:
        old, new = base.sizes()[name], target.sizes()[name]
        along_depth = name in base.axes["depth"]
        places = aligned(old, new, after if along_depth else None)
        before = origins(places)
        # as wide as the narrowest of the layer and the new ones after it, which then are identities
        wide[name] = tuple(min(new[p] for p, i in enumerate(before) if i == layer) for layer in range(len(old)))
        deep[name] = tuple(wide[name][i] for i in before)
        if along_depth:
            follows = [before[p] + 1 for p, place in enumerate(places) if place is None] or None
    return wide, deep, follows


@EXPANSIONS.register("width_then_depth")
class WidthThenDepth(TwoSteps):
    """Two exact operators, one after the other."""

    width: Literal["net2wider", "zero_pad", "hypercloning", "lemon"] = "net2wider"
    """The width operator, with its default options."""
    depth: Literal["identity_block", "net2deeper"] = "identity_block"
    """The depth operator, with its default options: net2deeper for an MLP or a CNN, identity_block for all others."""

    @property
    def operators(self) -> str:
        """Both operators."""
        return f" {self.width}, {self.depth},"

    def wider(self) -> Sized:
        """The operator `width`."""
        return cast("Sized", EXPANSIONS.create({"name": self.width, "tolerance": self.tolerance, "axis": self.axis}))

    def deeper(self, base: Architecture, after: list[int] | None = None) -> Sized:
        """The operator `depth`.

        Args:
            base: not used.
            after: of a plain network, the layers that the new ones follow, one for each.

        Returns:
            The operator.
        """
        places = {"after": after} if after and self.depth == "net2deeper" else {}
        return cast("Sized", EXPANSIONS.create({"name": self.depth, "tolerance": self.tolerance, **places}))
