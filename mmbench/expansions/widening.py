"""What all width operators share: the positions of channels along an axis, and the padding of tensors.

An axis is a product of parts (see `mmbench.models.table`). Lists of channels, one per group, select the entries whose
parts are all listed, in row-major order.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Literal

import torch

from mmbench.expansions.base import Filled, Growth
from mmbench.expansions.sized import Sized
from mmbench.models.table import Axis, Table

WidthAxis = Literal["width", "first", "convolutions", "stream", "hidden", "heads", "head_dim"]


class Widening(Sized):
    """Base of the operators that add channels to groups."""

    axis: WidthAxis = "width"
    """`width`: all channels; `first`: those of the first layer only; `convolutions`: those of all convolutions only;
    `stream`: the residual stream only; `hidden`: the units inside the blocks (of a CNN, of the fully connected layers)
    only; `heads`: attention heads only; `head_dim`: the channels of every head only."""


class Padding(Sized):
    """Base of the operators that copy the small tensors into one corner of the larger network's initialisation."""

    def fill(self, growth: Growth) -> Filled:
        """Old entries from the small network; new ones from the initialisation, as `new_entries` changes it."""
        for name, fresh in growth.fresh.items():
            small, axes = growth.small[name], growth.new.tensors[name]
            if fresh.shape == small.shape:
                yield name, small
                continue
            pairs = zip(growth.old.tensors[name], axes, strict=True)
            kept = [kept_entries(*pair, growth.old, growth.new) for pair in pairs]
            self.new_entries(fresh, axes, kept)
            put(fresh, kept, small)
            yield name, fresh

    @abstractmethod
    def new_entries(self, tensor: torch.Tensor, axes: tuple[Axis, ...], kept: list[torch.Tensor]) -> None:
        """Change a fresh tensor in place, before the old entries are written into it.

        Args:
            tensor: of the larger network's shape, its initialisation.
            axes: of the tensor.
            kept: for each axis the positions of the small network's entries.
        """


def entries(axis: Axis, table: Table, channels: Callable[[str], torch.Tensor]) -> torch.Tensor:
    """Positions of some channels along an axis.

    Args:
        axis: a product of parts.
        table: gives the sizes of the groups.
        channels: for a group the indices (n,) of the selected channels.

    Returns:
        (m,) positions of the entries whose parts are all selected; parts of fixed size are selected entirely.
    """
    positions = torch.zeros(1, dtype=torch.long)
    for part in axis.parts:
        size = table.groups[part].size if isinstance(part, str) else part
        index = channels(part) if isinstance(part, str) else torch.arange(size)
        positions = (positions[:, None] * size + index).flatten()
    return positions


def kept_entries(old_axis: Axis, new_axis: Axis, old: Table, new: Table) -> torch.Tensor:
    """Positions along an axis of the larger network where padding puts the small network's entries.

    Args:
        old_axis: of a tensor of the small network.
        new_axis: the same axis of the larger network.
        old: the small network's table.
        new: the larger network's table.

    Returns:
        One position per old entry: the first channels of each group; for a kernel, the positions around the centre.
    """
    if new_axis.role == "kernel":
        small, large = old.length(old_axis), new.length(new_axis)
        return torch.arange(small) + (large - small) // 2
    return entries(new_axis, new, lambda group: torch.arange(old.groups[group].size))


def put(tensor: torch.Tensor, where: list[torch.Tensor], values: torch.Tensor | float) -> None:
    """Write into a tensor in place, by slices where indices are consecutive.

    Args:
        tensor: is changed.
        where: for each axis the indices; the entries of their product are written.
        values: of the shape of that product, or one number for all.
    """
    view, listed = tensor, []
    for dim, index in enumerate(where):
        start, length = (int(index[0]), len(index)) if len(index) else (0, 0)
        if torch.equal(index, torch.arange(start, start + length)):
            view = view.narrow(dim, start, length)
        else:
            listed.append(dim)
    if len(listed) > 1:
        tensor[torch.meshgrid(*where, indexing="ij")] = values
    elif listed:
        view[(slice(None),) * listed[0] + (where[listed[0]],)] = values
    else:
        view.copy_(values) if isinstance(values, torch.Tensor) else view.fill_(values)
