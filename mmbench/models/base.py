"""What a network family is: its sizes, an axis table, a factory, and the axes along which it can grow."""

from __future__ import annotations

import contextlib
import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

from pydantic import ValidationError
from torch import nn

from mmbench.data.base import InputShape
from mmbench.errors import UndefinedError
from mmbench.models.table import Table
from mmbench.registry import Component, Registry

Sizes = dict[str, Any]


class Architecture(Component):
    """Base of all network families: the sizes of a network, except those that the data set determines."""

    axes: ClassVar[Mapping[str, tuple[str, ...]]]
    """For each axis of growth, the sizes that grow along it; along `first` only the first entry of each."""
    plain: ClassVar[Mapping[str, str]] = {}
    """Of a plain network: each size that holds one width per layer, with the prefix of the layers' names."""

    placed: ClassVar[tuple[str, ...]] = ()
    """Sizes on no axis that say where something stands; an expansion to exact sizes may give them, too."""

    @abstractmethod
    def table(self, shape: InputShape) -> Table:
        """The axis table of the network for images of that shape; `UndefinedError` if they do not fit."""

    @abstractmethod
    def build(self, shape: InputShape) -> nn.Module:
        """The network, freshly initialised from torch's global generator."""

    @classmethod
    @abstractmethod
    def read(cls, model: nn.Module) -> tuple[Self, InputShape] | None:
        """The sizes of a given network, or None if it is not of this family."""

    def sizes(self) -> Sizes:
        """All sizes as numbers, including the optional ones that are derived from others when they are not given."""
        return dict(self)

    @classmethod
    def of(cls, sizes: Sizes) -> Self:
        """The architecture with these sizes. An optional size that equals its derived value is set to None.

        Args:
            sizes: every size as a number, as `sizes()` returns them.

        Returns:
            The architecture; `sizes()` of it equals `sizes`.

        Raises:
            UndefinedError: a size is out of range, or the sizes contradict each other.
        """
        return cls._checked(sizes)

    @classmethod
    def _checked(cls, options: Sizes) -> Self:
        try:
            return cls(**options)
        except ValidationError as error:
            first = error.errors()[0]
            if not first["loc"]:  # the sizes contradict each other
                raise UndefinedError(f"no network of the family {cls.name!r}: {first['ctx']['error']}") from None
            where = " ".join(map(str, first["loc"]))
            raise UndefinedError(
                f"no network of the family {cls.name!r} has {where} = {first['input']}: {first['msg']}"
            ) from None

    def describe(self) -> dict[str, Any]:
        """Name and options; equal sizes have the same description, however they were given."""
        return super(Architecture, self.of(self.sizes())).describe()

    def grown(self, axis: str, factor: float) -> Self:
        """The architecture with the sizes along an axis multiplied by `factor` and rounded; no size shrinks."""
        fields, sizes = self._fields(axis), self.sizes()
        larger = {name: self.scaled(name, sizes[name], factor) for name in fields}
        if axis == "first":
            larger = {name: (size[0], *sizes[name][1:]) for name, size in larger.items()}
        return self.of({**sizes, **larger})

    def resized(self, sizes: Sizes) -> Self:
        """The architecture with some of its sizes replaced.

        Args:
            sizes: the sizes to replace. Optional ones that are not given, and that follow others now, go on doing so.

        Returns:
            The architecture, which may be smaller than this one.

        Raises:
            UndefinedError: a size is out of range, or the sizes contradict each other.
        """
        changed = self._checked({**dict(self.of(self.sizes())), **sizes})
        return changed.of(changed.sizes())

    def increments(self, axis: str, units: int = 1) -> Iterator[Self]:
        """The architectures that are larger by `units` in a single stage or layer.

        There are none along an axis whose size is one number for the whole network.

        Args:
            axis: of growth.
            units: how many steps of `unit` the size of the stage grows by.

        Yields:
            One architecture per size along the axis and stage.
        """
        sizes = self.sizes()
        for name in self._fields(axis):
            if isinstance(sizes[name], tuple):
                for i, size in enumerate(sizes[name][: 1 if axis == "first" else None]):
                    larger = (*sizes[name][:i], size + units * self.unit(name), *sizes[name][i + 1 :])
                    with contextlib.suppress(UndefinedError):  # at its largest
                        yield self.of({**sizes, name: larger})

    def extent(self, axis: str) -> int:
        """The sum of the sizes that grow along an axis."""
        values = [self.sizes()[name] for name in self._fields(axis)]
        if axis == "first":
            return sum(value[0] for value in values)
        return sum(sum(value) if isinstance(value, tuple) else value for value in values)

    def scaled(self, name: str, size: Any, factor: float) -> Any:
        """One size, or one size per stage, times `factor`.

        Args:
            name: of the size.
            size: its value, an int or a tuple with one int per stage.
            factor: at least 1.

        Returns:
            The larger size, of the type of `size`.
        """
        if isinstance(size, tuple):
            return tuple(scaled(entry, factor, self.unit(name)) for entry in size)
        return scaled(size, factor, self.unit(name))

    def unit(self, name: str) -> int:
        """The step in which a size grows."""
        return 2 if name == "kernel_size" else 1

    def _fields(self, axis: str) -> tuple[str, ...]:
        if axis not in self.axes:
            raise UndefinedError(
                f"a network of the family {self.name!r} cannot grow along expansion.axis = {axis}: "
                f"{self.missing(axis)}; it grows along {', '.join(self.axes)}"
            )
        return self.axes[axis]

    def missing(self, axis: str) -> str:
        """Why the family does not have this axis, as a clause for an error message."""
        reasons = {
            "stream": "it has no residual stream",
            "heads": "it has no attention heads",
            "head_dim": "it has no attention heads",
            "kernel": "it has no convolution kernels that can grow around their centre",
            "first": "its first layer writes into the stream, which all blocks share",
            "convolutions": "it has no convolutions with channels of their own",
        }
        return reasons.get(axis, "there is no such axis")

    def blocks(self) -> list[list[str]]:
        """Per stage, the state-dict prefixes of its residual blocks (of a plain network: layers) in forward order."""
        return []

    def silencers(self) -> tuple[str, ...]:
        """Names, inside a residual block, of the parameters that make it the identity when they are zero.

        Returns:
            The names without the block's prefix; empty if the family has no residual blocks.
        """
        return ()

    def not_inherited(self, target: Architecture, arrangement: Mapping[str, str | None], exactly: bool) -> str:
        """Why a larger network cannot carry on this one's weights, although no tensor shrinks.

        Args:
            target: the larger architecture.
            arrangement: for each of its blocks the one of this network that it continues; None for a new one.
            exactly: whether it must compute the same function.

        Returns:
            The reason, as a clause; empty if there is none.
        """
        return ""

    def depth(self) -> int:
        """The number of residual blocks or, for a plain network, of hidden layers."""
        return sum(map(len, self.blocks()))

    def parameters(self, shape: InputShape) -> int:
        """The number of trainable parameters, in closed form."""
        return self.table(shape).parameters()


MODELS: Registry[Architecture] = Registry("model", "mmbench.models")


def scaled(size: int, factor: float, unit: int = 1) -> int:
    """`size * factor`, rounded to the nearest of `size`, `size + unit`, `size + 2 * unit`, ... (halves up).

    Args:
        size: at least 1.
        factor: a factor below 1 returns `size`.
        unit: the step in which the size grows.

    Returns:
        The rounded size, never below `size`.
    """
    return size + unit * max(0, math.floor((size * factor - size) / unit + 0.5))


def interleaved(old: int, new: int) -> list[int | None]:
    """Spread `old` blocks evenly among `new` places.

    The first place always holds an old block. Each old block is followed by its share of new ones.

    Returns:
        For each of the `new` places the index of the old block there, or None for a new block.
    """
    starts = {-(-i * new // old): i for i in range(old)}
    return [starts.get(place) for place in range(new)]
