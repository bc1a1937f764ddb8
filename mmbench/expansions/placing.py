"""Where the new layers of a deeper plain network stand: the option `after`, or where their widths fit best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Self

from pydantic import Field, Strict, model_validator

from mmbench.expansions.base import Arrangement, Expansion
from mmbench.models.base import Architecture
from mmbench.models.plain import Plain, aligned

After = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Strict(False), Field(min_length=1)]


class Placing(Expansion):
    """Base, beside `Sized`, of the operators that insert layers into a plain network."""

    after: After | None = None
    """Of a plain network, the layers of the base model, from 1, that the new ones follow: one for all, or one for each;
    null to spread them evenly or, with `to`, to place them where the widths fit best."""

    @model_validator(mode="after")
    def _places_are_known(self) -> Self:
        if self.after is not None and any(getattr(self, goal, None) is not None for goal in ("budget", "match")):
            raise ValueError("expansion.after goes with expansion.factor or expansion.to, not with budget or match")
        return self

    def describe(self) -> dict[str, Any]:
        """Without `after` where the operator chooses."""
        return {key: value for key, value in super().describe().items() if key != "after" or value is not None}

    @property
    def places(self) -> str:
        """The places, for the label."""
        return "" if self.after is None else f" after {','.join(map(str, self.after))}"

    def resized(self, base: Architecture, sizes: dict[str, Any]) -> Architecture:
        """The base with other sizes, and a plain network's new layers at the places of `after`."""
        return base.resized(sizes, self.after) if isinstance(base, Plain) else base.resized(sizes)


def counterparts(base: Plain, target: Architecture, after: Sequence[int] | None = None) -> Arrangement:
    """The layers of a larger plain network that continue old ones, by their widths.

    Args:
        base: the small architecture.
        target: the larger one.
        after: the old layers, from 1, that new ones along depth follow; None to choose.

    Returns:
        For each layer of the larger network the one of the small network that it continues, or None.

    Raises:
        UndefinedError: the old layers do not fit among the new ones.
    """
    return {
        layer: None if place is None else old[place]
        for name, old, new in zip(base.plain, base.blocks(), target.blocks(), strict=True)
        for layer, place in zip(
            new,
            aligned(base.sizes()[name], target.sizes()[name], after if name in base.axes["depth"] else None),
            strict=True,
        )
    }
