"""Plain networks: layers with ReLU, one after the other, each with a width of its own.

A layer that is inserted after a ReLU can be the identity, since ReLU(x) = x for x >= 0. Which layers of a deeper
network are the new ones is not told by its widths alone; `aligned` chooses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Self

from mmbench.errors import UndefinedError
from mmbench.models.base import Architecture, interleaved, scaled
from mmbench.models.base import Sizes as AllSizes


class Plain(Architecture):
    """Base of the plain families. The sizes in `plain` hold one width per layer; depth grows the axis's only size."""

    def grown(self, axis: str, factor: float) -> Self:
        """Wider layers; along depth, more of them, each new one as wide as the layer before it."""
        if axis != "depth":
            return super().grown(axis, factor)
        (name,) = self._fields(axis)
        old = self.sizes()[name]
        return self.deepened(name, interleaved(len(old), scaled(len(old), factor)))

    def deepened(self, name: str, places: Sequence[int | None]) -> Self:
        """The architecture with new layers, each as wide as the layer before it.

        Args:
            name: the size that holds the layers' widths.
            places: for each layer the old one, from 0; None for a new layer.

        Returns:
            The deeper architecture.
        """
        old = self.sizes()[name]
        return self.rearranged(name, tuple(old[origin] for origin in origins(places)), places)

    def rearranged(self, name: str, widths: tuple[int, ...], places: Sequence[int | None]) -> Self:
        """The architecture with other layers, old ones at known places.

        Args:
            name: the size that holds the layers' widths.
            widths: of all layers.
            places: for each layer the old one, from 0; None for a new layer.

        Returns:
            The architecture.
        """
        return self.of({**self.sizes(), name: widths})

    def resized(self, sizes: AllSizes, after: Sequence[int] | None = None) -> Self:
        """The architecture with other sizes; where layers are added, new ones are placed by `aligned`.

        Args:
            sizes: the sizes to replace.
            after: the layers, from 1, that the new ones along depth follow; None where they fit best.

        Returns:
            The architecture.

        Raises:
            UndefinedError: a size is out of range, or the old layers do not fit among the new ones.
        """
        rest = {name: size for name, size in sizes.items() if name not in self.plain}
        larger = self
        for name in self.plain:
            old: tuple[int, ...] = self.sizes()[name]
            new: tuple[int, ...] = sizes.get(name, old)
            if len(new) != len(old):
                places = aligned(old, new, after if name in self.axes["depth"] else None)
                larger = larger.rearranged(name, new, places)
            elif new != old:
                rest[name] = new
        return super(Plain, larger).resized(rest)

    def increments(self, axis: str, units: int = 1) -> Iterator[Self]:
        """More units in one layer; none along depth, where layers are added evenly."""
        return iter(()) if axis == "depth" else super().increments(axis, units)

    def extent(self, axis: str) -> int:
        """The sum of the widths, or the number of layers."""
        return len(self.sizes()[self._fields(axis)[0]]) if axis == "depth" else super().extent(axis)

    def blocks(self) -> list[list[str]]:
        """The layers of each kind, such as `fc1`, `fc2`, ..., as one stage."""
        return [[f"{layer}{i}" for i, _ in enumerate(self.sizes()[name], 1)] for name, layer in self.plain.items()]


def origins(places: Sequence[int | None]) -> list[int]:
    """For each place the last old layer that stands there or before it."""
    last, found = 0, []
    for place in places:
        last = last if place is None else place
        found.append(last)
    return found


def aligned(old: Sequence[int], new: Sequence[int], after: Sequence[int] | None = None) -> list[int | None]:
    """Find the old layers among those of a deeper plain network.

    The first layer is the first old one, since a new one needs a ReLU before it. A layer is at least as wide as the old
    layer that it continues or follows. Of all such places those are taken at which the new layers differ least in width
    from the layer before them; of these, the ones nearest to even.

    Args:
        old: widths of the small network's layers, in forward order.
        new: widths of the larger network's layers.
        after: the old layers, from 1, that new ones follow: one for all new layers, or one for each; None to choose.

    Returns:
        For each layer in `new` the old one, from 0, or None for a new layer.

    Raises:
        UndefinedError: the old layers do not fit.
    """
    extra = len(new) - len(old)
    if not extra and all(a <= b for a, b in zip(old, new, strict=True)):
        return [*range(len(old))]
    if not old or extra <= 0:
        raise UndefinedError(_misfit(old, new))
    even = interleaved(len(old), len(new)) if after is None else places_after(after, len(old), extra)
    before = origins(even)
    if all(new[p] >= old[i] for p, i in enumerate(before)) and (
        after is not None or all(new[p] == new[p - 1] for p, origin in enumerate(even) if origin is None)
    ):
        return even
    if after is not None or new[0] < old[0]:
        raise UndefinedError(_misfit(old, new, after))
    wanted = {origin: p for p, origin in enumerate(even) if origin is not None}
    # by the old layer that has come last: the cost so far, and the places
    best: dict[int, tuple[tuple[int, int], list[int | None]]] = {0: ((0, 0), [0])}
    for p in range(1, len(new)):
        following: dict[int, tuple[tuple[int, int], list[int | None]]] = {}
        for last, ((change, distance), places) in best.items():
            options: list[tuple[int, int | None, tuple[int, int]]] = [
                (last, None, (change + abs(new[p] - new[p - 1]), distance))
            ]
            if last + 1 < len(old):
                options.append((last + 1, last + 1, (change, distance + abs(p - wanted[last + 1]))))
            for origin, place, cost in options:
                if new[p] >= old[origin] and (origin not in following or cost < following[origin][0]):
                    following[origin] = cost, [*places, place]
        best = following
    if len(old) - 1 not in best:
        raise UndefinedError(_misfit(old, new))
    return best[len(old) - 1][1]


def places_after(after: Sequence[int], old: int, extra: int) -> list[int | None]:
    """The places at which new layers follow given old ones.

    Args:
        after: the old layers, from 1: one for all new layers, or one for each.
        old: number of old layers.
        extra: number of new layers, at least 1.

    Returns:
        For each layer the old one, from 0, or None for a new layer.

    Raises:
        UndefinedError: a layer does not exist, or there are fewer or more than one for each new layer.
    """
    if len(after) not in (1, extra) or not all(1 <= layer <= old for layer in after):
        raise UndefinedError(
            f"expansion.after = {[*after]} must name one of the {old} layers (1 to {old}) that the {extra} new ones "
            f"follow, or {extra} of them, one for each"
        )
    counts = [extra if len(after) == 1 and layer in after else after.count(layer) for layer in range(1, old + 1)]
    return [place for layer, count in enumerate(counts) for place in (layer, *[None] * count)]


def _misfit(old: Sequence[int], new: Sequence[int], after: Sequence[int] | None = None) -> str:
    where = "" if after is None else f" with expansion.after = {[*after]}"
    return (
        f"layers of the widths {[*old]} cannot become {[*new]}{where}: in order, and the first as the first, each old "
        "layer needs one that is at least as wide, and so does each new layer that follows it"
    )
