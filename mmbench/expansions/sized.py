"""Expansions along an axis: by a factor, to a parameter budget, to another operator's count, or to exact sizes."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Self

from pydantic import Field, field_validator, model_validator

from mmbench.data.base import InputShape
from mmbench.errors import UndefinedError
from mmbench.expansions.base import EXPANSIONS, Expansion, Target
from mmbench.expansions.budget import LARGEST_FACTOR, Grow, solve
from mmbench.expansions.exact import To, changed, ratio, refuse_smaller, text, wanted
from mmbench.models.base import Architecture
from mmbench.models.table import Table
from mmbench.registry import unknown_name


class Sized(Expansion):
    """Base of all operators that make a network larger."""

    copies: ClassVar[bool] = False
    """Whether new channels are copies. Under a LayerNorm, only whole copies of all channels keep the function."""

    inherits: ClassVar[bool] = True
    """Whether it carries weights over, which then must fit."""

    axis: str
    """What grows."""
    factor: float = Field(2.0, gt=1, le=LARGEST_FACTOR)
    """Multiplies the sizes along the axis. With `match` it is the factor of that operator; `budget` solves for it."""
    budget: float | None = Field(None, gt=1, le=LARGEST_FACTOR**2)
    """Target parameter count as a multiple of the base model's."""
    match: str | None = None
    """Name of an operator whose parameter count is matched: its count with `factor` and its default options."""
    tolerance: float = Field(0.01, ge=0, le=0.05)
    """Largest relative difference between the actual and the target parameter count."""
    to: To = ()
    """Exact sizes of the larger network by name, as `to.channels=[10,32]`; replaces axis, factor, budget and match."""

    @field_validator("match")
    @classmethod
    def _is_an_operator(cls, name: str | None) -> str | None:
        if name is None or (name in EXPANSIONS and "match" in EXPANSIONS[name].model_fields):
            return name
        sized = [operator for operator in EXPANSIONS.names() if "match" in EXPANSIONS[operator].model_fields]
        raise ValueError(unknown_name("expansion.match", name, sized))

    @model_validator(mode="after")
    def _one_goal(self) -> Self:
        if self.budget is not None and self.match is not None:
            raise ValueError("expansion.budget and expansion.match both set the size of the network; give one of them")
        for option in ("factor", "budget", "match", "depth_factor") if self.to else ():
            if option in type(self).model_fields and getattr(self, option) != type(self).model_fields[option].default:
                raise ValueError(
                    f"expansion.to and expansion.{option} both set the size of the network; give one of them"
                )
        return self

    def describe(self) -> dict[str, Any]:
        """The options that the result depends on: without the tolerance, and without what another option decides."""
        without = {"tolerance"} if self.to else {"tolerance", "to"}
        if self.budget is not None or self.to:
            without |= {"factor"}
        if self.to:
            without |= {"axis", "budget", "match"}
        return {key: value for key, value in super().describe().items() if key not in without}

    @property
    def label(self) -> str:
        """Name, axis if there are several, and size."""
        if self.to:
            return f"{self.name} to {text(self.to)}"
        axis = f" {self.axis}" if len(self.axes()) > 1 else ""
        size = f"{self.budget:g}x" if self.budget else f"={self.match}" if self.match else f"f={self.factor:g}"
        return f"{self.name}{axis} {size}"

    def target(self, base: Architecture, shape: InputShape) -> Target:
        """The base grown by the factor, to the target parameter count, or to exact sizes."""
        self.refuse_other_families(base)
        if self.to:
            architecture = self.exactly(base)
            settled = self.settled(base, architecture, shape)
            return Target(settled, "+".join(changed(base, architecture)), ratio(base, architecture))
        factor, goal = self.factor, self.goal(base, shape)
        if goal is None:
            architecture = self.grown(base, factor)
        else:
            architecture = self.reach(base, shape, goal)
            factor = round(architecture.extent(self.axis) / base.extent(self.axis), 4)
        return Target(self.settled(base, architecture, shape), self.axis, factor)

    def grown(self, base: Architecture, factor: float) -> Architecture:
        """The base grown along the axis by a factor."""
        return base.grown(self.axis, factor)

    def exactly(self, base: Architecture) -> Architecture:
        """The architecture with the sizes of `to`.

        Args:
            base: the architecture that grows.

        Returns:
            The larger architecture.

        Raises:
            UndefinedError: the family lacks a size, a size shrinks, or this operator does not grow one of them.
        """
        architecture = self.resized(base, wanted(base, self.to))
        refuse_smaller(base, architecture)
        for name, axes in changed(base, architecture).items():
            if not axes & {*self.reaches()}:
                what = "more layers" if name in base.plain and axes == {"depth"} else name
                raise UndefinedError(
                    f"expansion.to needs {what} (expansion.axis = {' or '.join(sorted(axes))}), and {self.name} grows "
                    f"{', '.join(self.reaches())} only; use another operator, or expansion=net2net for width and depth"
                )
        return architecture

    def reaches(self) -> tuple[str, ...]:
        """The axes whose sizes `to` may change."""
        return self.axes()

    def resized(self, base: Architecture, sizes: dict[str, Any]) -> Architecture:
        """The base with other sizes."""
        return base.resized(sizes)

    def reach(
        self,
        base: Architecture,
        shape: InputShape,
        goal: tuple[int, str],
        finish: Grow = lambda grown: grown,
        smallest: int | None = None,
    ) -> Architecture:
        """Grow an architecture along the axis to a parameter count.

        Args:
            base: the architecture that grows.
            shape: what the networks are built for.
            goal: the parameter count, and the option that sets it, for the error.
            finish: applied to the larger architecture before its parameters are counted.
            smallest: the count of the base model, for the error; that of `base` unless given.

        Returns:
            The larger architecture, before `finish`.

        Raises:
            UndefinedError: no size comes within the tolerance.
        """
        whole = self.whole(base.table(shape), base.grown(self.axis, 2.0).table(shape))
        finer = "hidden" in self.axes() and "hidden" in base.axes and self.axis != "hidden"
        hint = "; along expansion.axis = hidden the steps are finer" if finer else ""
        return solve(
            *(base, shape, self.axis, *goal, self.tolerance), whole=whole, finish=finish, smallest=smallest, finer=hint
        )

    def whole(self, old: Table, new: Table) -> bool:
        """Whether the groups that grow must grow by integer factors."""
        return self.copies and bool(grown_coupled_groups(old, new))

    def settled(self, base: Architecture, architecture: Architecture, shape: InputShape) -> Architecture:
        """Check that the operator can fill a larger network, and adapt its architecture.

        Args:
            base: the small architecture.
            architecture: the larger one.
            shape: what the networks are built for.

        Returns:
            The architecture, with any changes that the operator makes besides sizes.

        Raises:
            UndefinedError: the operator cannot fill it.
        """
        self.refuse_other_families(base)
        architecture = self.adapted(base, architecture)
        self.check(base.table(shape), architecture.table(shape))
        if not self.inherits:
            return architecture
        arrangement = self.arrangement(base, architecture, shape)
        if difference := base.not_inherited(architecture, arrangement, exactly=self.preserves != "no"):
            raise UndefinedError(f"{self.name} cannot carry the weights over: {difference}")
        return architecture

    def goal(self, base: Architecture, shape: InputShape) -> tuple[int, str] | None:
        """The target parameter count and the option that sets it; None if the factor decides.

        Args:
            base: the architecture that grows.
            shape: what the networks are built for.

        Returns:
            The count and, for instance, "expansion.budget = 2".

        Raises:
            UndefinedError: the operator to match is not defined for this network.
        """
        smallest = base.parameters(shape)
        if self.budget is not None:
            return math.floor(self.budget * smallest + 0.5), f"expansion.budget = {self.budget:g}"
        if self.match is None:
            return None
        matched = EXPANSIONS.create({"name": self.match, "factor": self.factor})
        try:
            count = matched.target(base, shape).architecture.parameters(shape)
        except UndefinedError as error:
            raise UndefinedError(f"expansion.match = {self.match} is not defined here: {error}") from None
        return count, f"expansion.match = {self.match}"

    def asked_for(self, base: Architecture, shape: InputShape) -> float | None:
        """The budget; with `match`, the parameter count of that operator as a multiple, rounded to two decimals."""
        goal = self.goal(base, shape)
        return self.budget or (goal and round(goal[0] / base.parameters(shape), 2))

    def adapted(self, base: Architecture, architecture: Architecture) -> Architecture:
        """The larger architecture, with any changes that the operator makes besides sizes; by default none."""
        return architecture

    def check(self, old: Table, new: Table) -> None:
        """Raise `UndefinedError` if the operator cannot fill the larger network."""
        if new.parameters() == old.parameters():
            size = "expansion.to gives" if self.to else f"expansion.factor = {self.factor:g} rounds to"
            raise UndefinedError(f"{size} the base model's own size; raise it")
        if self.copies:
            for name in grown_coupled_groups(old, new):
                group, small = new.groups[name], old.groups[name].size
                if group.size % small:
                    raise UndefinedError(
                        f"{self.name} can only copy the group {name!r} whole, since {self.why(new, name)}, and {small} "
                        f"-> {group.size} is not an integer factor; use an integer expansion.factor (2 along width "
                        "gives about four times the parameters), expansion.axis=hidden or, for a ViT, "
                        "expansion=lemon"
                    )

    @staticmethod
    def why(table: Table, name: str) -> str:
        """Why the channels of a group cannot be copied one by one, as a clause."""
        by = table.groups[name].coupled_by
        return "a LayerNorm normalises it" if by == "LayerNorm" else "attention takes dot products over it"


def grown_coupled_groups(old: Table, new: Table) -> list[str]:
    """The groups that have grown and whose channels a LayerNorm or attention couples."""
    return [name for name, group in new.groups.items() if group.coupled_by and group.size != old.groups[name].size]
