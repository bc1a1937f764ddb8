"""The axis table: the channel group of every axis of every tensor of a network.

Expansions, budgets, permutation tests and weight matching all use this table. Parameter counts follow from it in closed
form, without building the network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

Part = str | int


@dataclass(frozen=True)
class Axis:
    """One axis of one tensor: the product of its parts, in row-major order.

    A part is a channel group, by name, or a fixed count: the rows of a fused q, k, v are (3, heads, head_dim).
    """

    role: Literal["out", "in", "kernel", "fixed"]
    """`out`: one entry per channel (rows of a producer, biases, norms); `in`: columns of a consumer, which sums over
    the channels; `kernel`: positions of a convolution kernel; `fixed`: an axis that no expansion changes."""
    parts: tuple[Part, ...]

    @property
    def groups(self) -> list[str]:
        """The channel groups among the parts, in order."""
        return [part for part in self.parts if isinstance(part, str)]


def out(*parts: Part) -> Axis:
    """An axis that produces channels."""
    return Axis("out", parts)


def into(*parts: Part) -> Axis:
    """An axis that consumes (sums over) channels."""
    return Axis("in", parts)


def taps(size: int) -> Axis:
    """A side of a convolution kernel that can grow around its centre."""
    return Axis("kernel", (size,))


def fixed(size: int) -> Axis:
    """An axis that no expansion changes."""
    return Axis("fixed", (size,))


@dataclass(frozen=True)
class Group:
    """Axes that share one channel index."""

    size: int
    coupled_by: Literal["LayerNorm", "attention"] | None = None
    """The operation that computes one value from all channels: a LayerNorm (their mean and variance) or attention (the
    dot product of queries and keys). Only whole copies of the group preserve that value."""


@dataclass
class Table:
    """The groups of a network and the axes of each tensor in its state dict."""

    groups: dict[str, Group] = field(default_factory=dict)
    tensors: dict[str, tuple[Axis, ...]] = field(default_factory=dict)
    buffers: set[str] = field(default_factory=set)

    def add(self, name: str, *axes: Axis) -> None:
        """Add a parameter with its axes."""
        self.tensors[name] = axes

    def linear(self, name: str, rows: Axis, columns: Axis, *kernel: Axis, bias: bool = True) -> None:
        """Add the weight and the bias of a linear layer or a convolution.

        Args:
            name: of the layer in the state dict, without `.weight`.
            rows: output channels, the first axis of the weight and the only one of the bias.
            columns: input channels, the second axis of the weight.
            *kernel: height and width of a convolution.
            bias: whether the layer has one.
        """
        self.add(f"{name}.weight", rows, columns, *kernel)
        if bias:
            self.add(f"{name}.bias", rows)

    def norm(self, name: str, channels: Axis, batch_statistics: bool = False) -> None:
        """Add the scale and shift of a normalisation layer and, for batch norm, its running statistics.

        Args:
            name: of the layer in the state dict.
            channels: the axis that is normalised.
            batch_statistics: whether the layer is a batch norm, with running statistics as buffers.
        """
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

    def length(self, axis: Axis) -> int:
        """The number of entries along an axis."""
        return math.prod(self.groups[part].size if isinstance(part, str) else part for part in axis.parts)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor."""
        return tuple(map(self.length, self.tensors[name]))

    def parameters(self) -> int:
        """The number of trainable parameters, buffers not counted."""
        return sum(math.prod(self.shape(name)) for name in self.tensors if name not in self.buffers)
