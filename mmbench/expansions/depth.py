"""What all depth operators share: which blocks can be repeated."""

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
        """The layers of a plain network are not residual blocks."""
        return ", which has no residual blocks (net2deeper inserts layers)" if base.plain else ""


class Repeating(Deepening):
    """Base of the operators whose new blocks are copies of old ones. They do not keep the function."""

    preserves = "no"

    def arrange(self, old: list[str], new: list[str], tables: tuple[Table, Table]) -> list[str | None]:
        """The first block stays; every other place takes the fitting old block that `index` selects.

        Args:
            old: the small network's blocks of the stage, in forward order.
            new: the larger network's.
            tables: the axis tables of both.

        Returns:
            For each block in `new` a block in `old`.

        Raises:
            UndefinedError: the stage has too few blocks of equal shape.
        """
        return repeated(self.name, old, new, tables, self.index)

    @abstractmethod
    def index(self, place: int, old: int, new: int) -> int:
        """The old block at one place of a stage.

        Args:
            place: 0 .. new - 1.
            old: number of blocks that can be repeated.
            new: number of places.

        Returns:
            0 .. old - 1.
        """

    def fill(self, growth: Growth) -> Filled:
        """Fill every block from the old block that it repeats."""
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
    """Choose for each block of a stage the old block whose weights it takes.

    Blocks that change the number of channels are at the head of a stage; they cannot be repeated and stay there. Of the
    n places after them, place i takes block `index(i, count, n)` of the `count` blocks that can be repeated.

    Args:
        operator: its name, for the error.
        old: the small network's blocks of the stage, in forward order.
        new: the larger network's.
        tables: the axis tables of both.
        index: as `Repeating.index`.

    Returns:
        For each block in `new` a block in `old`.

    Raises:
        UndefinedError: the stage has too few blocks of equal shape.
    """
    if len(new) == len(old):
        return [*old]
    fitting = [block for block in old if alike(tables[0], block, tables[1], new[-1])]
    head = old[: len(old) - len(fitting)]
    places = len(new) - len(head)
    origins = [*head, *(fitting[index(i, len(fitting), places)] for i in range(places) if fitting)]
    if len(origins) < len(new) or not all(alike(tables[0], a, tables[1], b) for a, b in zip(origins, new, strict=True)):
        raise UndefinedError(
            f"{operator} takes new blocks from old ones of equal shape, and the stage of {old[0]!r} has too few: "
            "blocks that change the number of channels do not count; use expansion=identity_block, or more model.layers"
        )
    return [*origins]


def alike(first_table: Table, first: str, second_table: Table, second: str) -> bool:
    """Whether two blocks have the same tensors with the same shapes.

    Args:
        first_table: of the first block's network.
        first: prefix of the first block's tensors, without the final dot.
        second_table: of the second block's network.
        second: prefix of the second block's tensors.

    Returns:
        True if they have.
    """

    def shapes(table: Table, block: str) -> dict[str, tuple[int, ...]]:
        inside = [name for name in table.tensors if name.startswith(f"{block}.")]
        return {name.removeprefix(block): table.shape(name) for name in inside}

    return shapes(first_table, first) == shapes(second_table, second)
