"""What the width operators share: index maps and the tensor walk.

An index map m: [C'] -> [C] says for every channel of the larger network which channel of the small one it continues;
its first C entries are the identity. An axis of `repeat` times `unit` entries per channel (heads, fused q, k, v) is
indexed entry by entry through `entries`.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from mmbench.expansions.base import Growth, Sized
from mmbench.models.base import Axis, Table, WidthAxis

if TYPE_CHECKING:
    import torch

    from mmbench.expansions.base import State


class Widening(Sized):
    """Base of the operators that add channels to groups."""

    axis: WidthAxis = "width"
    """`width`: all channels; `hidden`: only the hidden units inside the blocks."""


class Padding(Widening):
    """Base of the operators that put the small tensors in the corner of the larger network's initialisation."""

    def fill(self, growth: Growth) -> State:
        """Every tensor: old entries from the small network, new ones as `new_entries` leaves the fresh ones."""
        import torch

        state = {}
        for name, fresh in growth.fresh.items():
            tensor, axes = fresh.clone(), growth.new.tensors[name]
            kept = [kept_entries(axis, growth.old, growth.new) for axis in axes]
            self.new_entries(tensor, axes, kept)
            if kept:
                tensor[torch.meshgrid(*kept, indexing="ij")] = growth.small[name]
            else:
                tensor = growth.small[name].clone()
            state[name] = tensor
        return state

    @abstractmethod
    def new_entries(self, tensor: torch.Tensor, axes: tuple[Axis, ...], kept: list[torch.Tensor]) -> None:
        """Change the fresh tensor in place before the old entries are written at the index lists `kept`."""


def entries(axis: Axis, channels: torch.Tensor, size: int) -> torch.Tensor:
    """Positions along the axis of a list of channels, where the group has `size` channels: (repeat, channels, unit)."""
    import torch

    blocks = torch.arange(axis.repeat) * size * axis.unit
    within = torch.arange(axis.unit)
    return (blocks[:, None, None] + channels[None, :, None] * axis.unit + within).flatten()


def kept_entries(axis: Axis, old: Table, new: Table) -> torch.Tensor:
    """Positions along an axis of the larger network that the small network's entries take: those of its channels."""
    import torch

    if axis.group is None:
        return torch.arange(axis.size)
    return entries(axis, torch.arange(old.groups[axis.group].size), new.groups[axis.group].size)
