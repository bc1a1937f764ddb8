"""Exact sizes of the larger network: the option `to`, such as expansion.to.channels=[10,32]."""

from __future__ import annotations

from collections.abc import Mapping
from operator import index
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from mmbench.errors import UndefinedError
from mmbench.models.base import Architecture, Sizes

Pairs = tuple[tuple[str, int | tuple[int, ...]], ...]


def _pairs(value: Any) -> Pairs:
    """The given sizes, sorted by name; null is no size."""
    if not isinstance(value, Mapping):
        raise ValueError(f"expansion.to = {value!r} must hold sizes by name, as in expansion.to.channels=[10,32]")
    found: dict[str, int | tuple[int, ...]] = {}
    for name, size in value.items():
        if size is not None:
            entries = size if isinstance(size, list | tuple) else [size]
            if not all(hasattr(n, "__index__") and not isinstance(n, bool) and n >= 1 for n in entries):
                raise ValueError(
                    f"expansion.to.{name} = {size!r} is not allowed: must be an integer >= 1, or a list of them"
                )
            whole = tuple(map(index, entries))  # numpy's integers, too
            found[str(name)] = whole if isinstance(size, list | tuple) else whole[0]
    return tuple(sorted(found.items()))


To = Annotated[
    Pairs,
    BeforeValidator(_pairs),
    PlainSerializer(lambda pairs: {name: [*n] if isinstance(n, tuple) else n for name, n in pairs}),
    WithJsonSchema({"type": "sizes by name, each an integer or a list of integers"}),
]
"""Sizes by name; a tuple, since options must be hashable."""


def text(to: Pairs) -> str:
    """The sizes in a few characters: `channels=10,32 hidden=976`."""
    return " ".join(f"{name}={','.join(map(str, _entries(size)))}" for name, size in to)


def wanted(base: Architecture, to: Pairs) -> Sizes:
    """The sizes of `to`, of the types that the family has.

    Args:
        base: the architecture that is expanded.
        to: sizes by name.

    Returns:
        The sizes; a single number where the family has a list becomes a list of one.

    Raises:
        UndefinedError: the family has no such size, or has one number where a list is given.
    """
    sizes = base.sizes()
    known = [*dict.fromkeys(name for names in base.axes.values() for name in names), *base.placed]
    found: Sizes = {}
    for name, size in to:
        if name not in known:
            raise UndefinedError(
                f"expansion.to.{name}: a network of the family {base.name!r} has no such size; its sizes are "
                f"{', '.join(known)}"
            )
        if isinstance(sizes[name], tuple):
            size = _entries(size)
        elif isinstance(size, tuple):
            raise UndefinedError(
                f"expansion.to.{name} = {[*size]}: a network of the family {base.name!r} has one number there, now "
                f"{sizes[name]}"
            )
        found[name] = size
    return found


def refuse_smaller(base: Architecture, target: Architecture) -> None:
    """Refuse an architecture that no expansion reaches.

    Args:
        base: the architecture that is expanded.
        target: the larger one.

    Raises:
        UndefinedError: a size of the target is smaller, the number of stages differs, or nothing grows.
    """
    if target == base:
        raise UndefinedError("expansion.to gives the base model's own sizes; raise one")
    before, after = base.sizes(), target.sizes()
    for name in dict.fromkeys(name for names in base.axes.values() for name in names):
        old, new = _entries(before[name]), _entries(after[name])
        if len(old) != len(new) and name not in base.plain:
            raise UndefinedError(
                f"expansion.to.{name} = {[*new]} has {len(new)} stages, and the base model has {len(old)}: no operator "
                "adds a stage"
            )
        # the widths of a deeper plain network are checked where its layers are aligned
        if len(new) < len(old) or (len(new) == len(old) and any(b < a for a, b in zip(old, new, strict=True))):
            raise UndefinedError(
                f"expansion.to makes {name} = {_shown(new)} of the base model's {_shown(old)}: no size can shrink; "
                f"raise it with expansion.to.{name}"
            )


def changed(base: Architecture, target: Architecture) -> dict[str, set[str]]:
    """The sizes that differ, each with the axes along which it can have grown.

    Args:
        base: the architecture that is expanded.
        target: the larger one.

    Returns:
        Axes by the name of the size; more layers of a plain network are `depth`. Sizes on no axis are left out.
    """
    before, after, found = base.sizes(), target.sizes(), {}
    for name in dict.fromkeys(name for names in base.axes.values() for name in names):
        if before[name] == after[name]:
            continue
        found[name] = {axis for axis, names in base.axes.items() if name in names}
        if name in base.plain:
            deeper = len(after[name]) > len(before[name])
            found[name] = {"depth"} if deeper else found[name] - {"depth"}
    return found


def ratio(base: Architecture, target: Architecture) -> float:
    """The sum of the sizes that have grown over the sum that they had, to four digits."""
    before, after = base.sizes(), target.sizes()
    sums = [0, 0]
    for name in changed(base, target):
        old, new = _entries(before[name]), _entries(after[name])
        if len(old) == len(new):
            grown = [(a, b) for a, b in zip(old, new, strict=True) if a != b]
            old, new = tuple(a for a, _ in grown), tuple(b for _, b in grown)
        sums = [sums[0] + sum(old), sums[1] + sum(new)]
    return round(sums[1] / sums[0], 4) if sums[0] else 1.0


def _entries(size: int | tuple[int, ...]) -> tuple[int, ...]:
    return size if isinstance(size, tuple) else (size,)


def _shown(entries: tuple[int, ...]) -> str:
    return str(entries[0]) if len(entries) == 1 else str([*entries])
