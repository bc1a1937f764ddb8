"""Expansions along an axis: by a factor, to a parameter budget, or to another operator's parameter count."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Self

from pydantic import Field, field_validator, model_validator

from mmbench.data.base import InputShape
from mmbench.errors import UndefinedError
from mmbench.expansions.base import EXPANSIONS, Expansion, Target
from mmbench.expansions.budget import LARGEST_FACTOR, Grow, solve
from mmbench.models.base import Architecture
from mmbench.models.table import Table
from mmbench.registry import unknown_name


class Sized(Expansion):
    """Base of all operators that make a network larger."""

    copies: ClassVar[bool] = False
    """Whether new channels are copies. Under a LayerNorm, only whole copies of all channels keep the function."""

    axis: str
    """What grows."""
    factor: float = Field(2.0, gt=1, le=LARGEST_FACTOR)
    """Multiplies the sizes along the axis. Where `match` is set it is the other operator's; where `budget` is, it is
    solved for."""
    budget: float | None = Field(None, gt=1, le=LARGEST_FACTOR**2)
    """Target parameter count as a multiple of the base model's."""
    match: str | None = None
    """Name of an operator: as many parameters as its default options and `factor` lead to."""
    tolerance: float = Field(0.01, ge=0, le=0.05)
    """Largest relative difference between the count reached and the one asked for."""

    @field_validator("match")
    @classmethod
    def _is_an_operator(cls, name: str | None) -> str | None:
        sized = [other for other in EXPANSIONS.names() if "match" in EXPANSIONS[other].model_fields]
        if name is not None and name not in sized:
            raise ValueError(unknown_name("expansion.match", name, sized))
        return name

    @model_validator(mode="after")
    def _one_goal(self) -> Self:
        if self.budget is not None and self.match is not None:
            raise ValueError("expansion.budget and expansion.match both say how large the network becomes; give one")
        return self

    def describe(self) -> dict[str, Any]:
        """The options that the result depends on: not the tolerance, nor a factor that the budget replaces."""
        without = {"tolerance", "factor"} if self.budget is not None else {"tolerance"}
        return {key: value for key, value in super().describe().items() if key not in without}

    @property
    def label(self) -> str:
        """Name, axis unless it is the only one, and size."""
        axis = f" {self.axis}" if len(self.axes()) > 1 else ""
        size = f"{self.budget:g}x" if self.budget else f"={self.match}" if self.match else f"f={self.factor:g}"
        return f"{self.name}{axis} {size}"

    def target(self, base: Architecture, shape: InputShape) -> Target:
        """By the factor, or to the parameter count asked for."""
        self.refuse_other_families(base)
        factor, goal = self.factor, self.goal(base, shape)
        if goal is None:
            architecture = base.grown(self.axis, factor)
        else:
            architecture = self.reach(base, shape, goal)
            factor = round(architecture.extent(self.axis) / base.extent(self.axis), 4)
        return Target(self.settled(base, architecture, shape), self.axis, factor)

    def reach(
        self,
        base: Architecture,
        shape: InputShape,
        goal: tuple[int, str],
        finish: Grow = lambda grown: grown,
        smallest: int | None = None,
    ) -> Architecture:
        """`base` grown along the axis to the parameter count asked for, counted after `finish`."""
        whole = self.whole(base.table(shape), base.grown(self.axis, 2.0).table(shape))
        return solve(base, shape, self.axis, *goal, self.tolerance, whole=whole, finish=finish, smallest=smallest)

    def whole(self, old: Table, new: Table) -> bool:
        """Whether only integer factors lead from one table to the other."""
        return self.copies and bool(pooled(old, new))

    def settled(self, base: Architecture, architecture: Architecture, shape: InputShape) -> Architecture:
        """The larger architecture as the operator fills it; `UndefinedError` where it cannot."""
        self.refuse_other_families(base)
        architecture = self.adapted(base, architecture)
        self.check(base.table(shape), architecture.table(shape))
        self.arrangement(base, architecture, shape)
        return architecture

    def goal(self, base: Architecture, shape: InputShape) -> tuple[int, str] | None:
        """The parameter count asked for, and the option that asks, in words; None where the factor decides."""
        smallest = base.parameters(shape)
        if self.budget is not None:
            return math.floor(self.budget * smallest + 0.5), f"expansion.budget = {self.budget:g}"
        if self.match is None:
            return None
        other = EXPANSIONS.create({"name": self.match, "factor": self.factor})
        try:
            count = other.target(base, shape).architecture.parameters(shape)
        except UndefinedError as error:
            raise UndefinedError(f"expansion.match = {self.match} leads nowhere: {error}") from None
        return count, f"expansion.match = {self.match}"

    def asked_for(self, base: Architecture, shape: InputShape) -> float | None:
        """The budget, or that of the operator to match, to two decimals."""
        goal = self.goal(base, shape)
        return self.budget or (goal and round(goal[0] / base.parameters(shape), 2))

    def adapted(self, base: Architecture, architecture: Architecture) -> Architecture:
        """The larger architecture with what the operator changes in it besides its sizes."""
        return architecture

    def check(self, old: Table, new: Table) -> None:
        """Raise `UndefinedError` where the operator cannot fill this larger network."""
        if new.parameters() == old.parameters():
            raise UndefinedError(f"expansion.factor = {self.factor:g} rounds to the base model's own size; raise it")
        if self.copies:
            for name in pooled(old, new):
                group, small = new.groups[name], old.groups[name].size
                if group.size % small:
                    raise UndefinedError(
                        f"{self.name} can only copy the group {name!r} whole, since {self.why(new, name)}, and {small} "
                        f"-> {group.size} is no integer factor; use an integer expansion.factor (2 of the whole width "
                        "makes about four times the parameters), expansion.axis=hidden or, for a ViT, expansion=lemon"
                    )

    @staticmethod
    def why(table: Table, name: str) -> str:
        """What forbids to treat the channels of a group one by one."""
        by = table.groups[name].coupled_by
        return "a LayerNorm runs over it" if by == "LayerNorm" else "attention takes dot products over it"


def pooled(old: Table, new: Table) -> list[str]:
    """The groups that have grown and whose channels enter one statistic together."""
    return [name for name, group in new.groups.items() if group.coupled_by and group.size != old.groups[name].size]
