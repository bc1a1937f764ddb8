"""What the depth operators share: which blocks can stand for one another."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Literal

from mmbench.errors import UndefinedError
from mmbench.expansions.base import Filled, Growth
from mmbench.expansions.sized import Sized
from mmbench.models.base import Architecture
from mmbench.models.table import Table


class Deepening(Sized):
    """Base of the operators that add residual blocks."""

    families = ("resnet", "vit", "mixer", "convnext")

    axis: Literal["depth"] = "depth"
    """Depth only."""

    def because(self, base: Architecture) -> str:
        """An MLP's layers are no residual blocks."""
        return ", which has no residual blocks (net2deeper inserts layers)" if base.name == "mlp" else ""


class Repeating(Deepening):
    """Base of the operators whose new blocks are copies of old ones. They do not keep the function."""

    preserves = "no"

    def arrange(self, old: list[str], new: list[str], tables: tuple[Table, Table]) -> list[str | None]:
        """The first block stays; every other place goes to a block that fits there, in the operator's order."""
        return repeated(self.name, old, new, tables, self.index)

    @abstractmethod
    def index(self, place: int, old: int, new: int) -> int:
        """Which of `old` blocks stands at a place among `new`."""

    def fill(self, growth: Growth) -> Filled:
        """Every block as its original."""
        for name in growth.fresh:
            source = growth.source(name)
            assert source is not None
            yield name, growth.small[source]


def repeated(
    operator: str,
    old: list[str],
    new: list[str],
    tables: tuple[Table, Table],
    index: Callable[[int, int, int], int],
) -> list[str | None]:
    """For each block among `new` the old one whose weights it takes.

    Place i of n takes number `index(i, count, n)` of the `count` blocks that fit. Blocks that change the number of
    channels fit nowhere else and stay at the head.
    """
    if len(new) == len(old):
        return [*old]
    fitting = [block for block in old if alike(tables[0], block, tables[1], new[-1])]
    head = old[: len(old) - len(fitting)]
    places = len(new) - len(head)
    found = [*head, *(fitting[index(i, len(fitting), places)] for i in range(places) if fitting)]
    if len(found) < len(new) or not all(alike(tables[0], a, tables[1], b) for a, b in zip(found, new, strict=True)):
        raise UndefinedError(
            f"{operator} takes new blocks from old ones of equal shape, and the stage of {old[0]!r} has too few: "
            "blocks that change the number of channels do not count; use expansion=identity_block, or more model.layers"
        )
    return [*found]


def alike(table: Table, block: str, other_table: Table, other: str) -> bool:
    """Whether two blocks have the same tensors, of the same shapes."""

    def shapes(table: Table, block: str) -> dict[str, tuple[int, ...]]:
        inside = [name for name in table.tensors if name.startswith(f"{block}.")]
        return {name.removeprefix(block): table.shape(name) for name in inside}

    return shapes(table, block) == shapes(other_table, other)
