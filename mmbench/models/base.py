"""What a network family is: sizes, an axis table, and a factory.

The axis table is the one map that expansions, budgets, permutation tests and weight matching all read. For every
tensor of the state dict it says, axis by axis, which channel group the axis belongs to. It needs no torch: parameter
counts follow from it in closed form.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from mmbench.data.base import InputShape
from mmbench.errors import UndefinedError
from mmbench.registry import MODELS, Component

if TYPE_CHECKING:
    from torch import nn

WidthAxis = Literal["width", "hidden"]


@dataclass(frozen=True)
class Axis:
    """One axis of one tensor.

    An axis of a group has `repeat * group.size * unit` entries: `unit` consecutive entries per channel (the head
    dimension for attention heads) and the whole group `repeat` times over (three times for a fused q, k, v).
    """

    group: str | None
    """The channel group; None for an axis that no expansion changes."""
    role: Literal["out", "in", "fixed"]
    """`out`: one entry per channel (rows of a producer, biases, norms); `in`: columns of a consumer."""
    size: int = 0
    """Length of a fixed axis."""
    unit: int = 1
    repeat: int = 1


def out(group: str, unit: int = 1, repeat: int = 1) -> Axis:
    """An axis that produces the channels of `group`."""
    return Axis(group, "out", unit=unit, repeat=repeat)


def into(group: str, unit: int = 1) -> Axis:
    """An axis that consumes (sums over) the channels of `group`."""
    return Axis(group, "in", unit=unit)


def fixed(size: int) -> Axis:
    """An axis that stays as it is."""
    return Axis(None, "fixed", size=size)


@dataclass(frozen=True)
class Group:
    """Axes that share one channel index."""

    size: int
    layer_norm: bool = False
    """Whether a LayerNorm runs over the channels: then only uniform duplication keeps its mean and variance."""


@dataclass
class Table:
    """The groups of a network and the axes of each tensor in its state dict."""

    groups: dict[str, Group] = field(default_factory=dict)
    tensors: dict[str, tuple[Axis, ...]] = field(default_factory=dict)
    buffers: set[str] = field(default_factory=set)

    def add(self, name: str, *axes: Axis) -> None:
        """Enter a parameter."""
        self.tensors[name] = axes

    def linear(self, name: str, rows: Axis, columns: Axis, *kernel: int, bias: bool = True) -> None:
        """Enter a linear layer's or convolution's weight, and its bias."""
        self.add(f"{name}.weight", rows, columns, *map(fixed, kernel))
        if bias:
            self.add(f"{name}.bias", rows)

    def norm(self, name: str, channels: Axis, batch_statistics: bool = False) -> None:
        """Enter a normalisation layer's scale and shift and, for batch norm, its running statistics."""
        self.add(f"{name}.weight", channels)
        self.add(f"{name}.bias", channels)
        if batch_statistics:
            statistics: dict[str, tuple[Axis, ...]] = {
                f"{name}.running_mean": (channels,),
                f"{name}.running_var": (channels,),
                f"{name}.num_batches_tracked": (),
            }
            self.tensors |= statistics
            self.buffers |= statistics.keys()

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor."""
        return tuple(
            a.size if a.group is None else a.repeat * self.groups[a.group].size * a.unit for a in self.tensors[name]
        )

    def parameters(self) -> int:
        """The number of trainable parameters, buffers not counted."""
        return sum(math.prod(self.shape(name)) for name in self.tensors if name not in self.buffers)


class Architecture(Component):
    """Base of all network families: the sizes of a network, without those that the data set decides."""

    zero_to_silence: ClassVar[tuple[str, ...]] = ()
    """Per residual block: the parameters that, set to zero, make the block the identity."""

    @abstractmethod
    def table(self, shape: InputShape) -> Table:
        """The axis table of the network for images of that shape."""

    @abstractmethod
    def build(self, shape: InputShape) -> nn.Module:
        """The network, freshly initialised from torch's global generator."""

    @abstractmethod
    def widened(self, factor: float, axis: WidthAxis = "width") -> Self:
        """The architecture with its channel counts multiplied by `factor` and rounded; never smaller."""

    def deepened(self, factor: float) -> Self:
        """The architecture with its residual blocks per stage multiplied by `factor` and rounded."""
        raise UndefinedError(f"a network of the family {self.name!r} has no residual blocks to insert more of")

    def blocks(self) -> list[list[str]]:
        """Per stage, the state-dict prefixes of its residual blocks in forward order."""
        return []

    def depth(self) -> int:
        """The number of layers (plain networks) or residual blocks."""
        return sum(map(len, self.blocks()))

    @classmethod
    @abstractmethod
    def read(cls, model: nn.Module) -> tuple[Self, InputShape] | None:
        """The sizes of a given network, or None if it is not of this family."""

    def parameters(self, shape: InputShape) -> int:
        """The number of trainable parameters, in closed form."""
        return self.table(shape).parameters()


def scaled(size: int, factor: float) -> int:
    """`size * factor` to the nearest integer (halves up), at least `size`."""
    return max(size, math.floor(size * factor + 0.5))


def architecture_of(model: nn.Module) -> tuple[Architecture, InputShape]:
    """Family, sizes and input of a built network; `UndefinedError` names the part that does not fit.

    The network is compared with what the family's factory builds from the sizes read, module by module, and with
    its axis table, so that a variant that they do not describe (another norm or pooling, a dropout, an extra layer) is
    refused, never guessed.
    """
    import torch

    for name in MODELS.names():
        try:
            found = MODELS[name].read(model)
            if found is None:
                continue
            architecture, shape = found
            with torch.device("meta"):
                twin = architecture.build(shape)
            difference = _first_difference(model, twin, architecture.table(shape))
        except (AttributeError, ValueError) as error:  # a part that the family has is missing, or too large for it
            difference = str(error)
        if difference:
            raise UndefinedError(
                f"this {type(model).__name__} is not a plain network of the family {name!r}: {difference}"
            )
        return architecture, shape
    raise UndefinedError(
        f"a {type(model).__name__} belongs to no family that can be expanded (families: {', '.join(MODELS.names())})"
    )


def _first_difference(model: nn.Module, twin: nn.Module, table: Table) -> str:
    for (name, ours), (expected, theirs) in zip_longest(
        model.named_modules(), twin.named_modules(), fillvalue=("nothing", None)
    ):
        if ours is not None and (ours._forward_hooks or ours._forward_pre_hooks):
            return f"{f'module {name!r}' if name else 'it'} has forward hooks"
        if name != expected:
            return f"module {name!r} stands where {expected!r} is expected"
        found = _settings(ours)
        for key, value in _settings(theirs).items():
            if found.get(key) != value:
                return f"{f'module {name!r}' if name else 'it'} has {key} = {found.get(key)}, expected {value}"
    tensors = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    for name in sorted(tensors.keys() | table.tensors.keys()):
        shape = table.shape(name) if name in table.tensors else "nothing"
        if tensors.get(name) != shape:
            return f"tensor {name!r} is {tensors.get(name, 'missing')}, expected {shape}"
    return ""


def _settings(module: nn.Module | None) -> dict[str, Any]:
    """A module's class and its plain attributes, except those that leave its function as it is."""
    harmless = ("training", "inplace", "grad_checkpointing", "fused_attn")
    plain = {k: v for k, v in vars(module).items() if isinstance(v, (bool, int, float, str, tuple))}
    return {"class": type(module).__name__, **{k: v for k, v in plain.items() if k not in harmless and k[0] != "_"}}
