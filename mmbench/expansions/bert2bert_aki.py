"""`bert2bert_aki`: new rows from the next block (Chen et al., 2022, bert2BERT, arXiv:2110.07143).

Advanced knowledge initialisation: as in Net2Wider, the columns of a consumer are split among the copies of a channel.
But the rows of a new channel are those that its original has in the next block. So a new channel differs from its
original from the first step on, and the function is not kept. The last block of a stage and all tensors outside the
blocks copy their own rows. Columns are split by projection, so that copies in the last block become different, too.
"""

from __future__ import annotations

import itertools

import torch

from mmbench.data.base import InputShape
from mmbench.errors import UndefinedError
from mmbench.expansions.base import EXPANSIONS, Growth, Target
from mmbench.expansions.copying import Copying, Maps
from mmbench.expansions.depth import alike
from mmbench.expansions.widening import kept_entries
from mmbench.models.base import Architecture
from mmbench.models.table import Table


@EXPANSIONS.register("bert2bert_aki")
class Bert2BertAKI(Copying):
    """New channels from the layer above."""

    preserves = "no"

    def target(self, base: Architecture, shape: InputShape) -> Target:
        """The wider architecture; `UndefinedError` unless a block that gets rows is followed by one of equal shape."""
        target = super().target(base, shape)
        old, new = base.table(shape), target.architecture.table(shape)
        following = tuple(f"{block}." for block in _next_blocks(base, old))
        if not any(_gets_rows(name, old, new) for name in old.tensors if name.startswith(following)):
            raise UndefinedError(
                "bert2bert_aki takes new rows from the next block, but this network has no two consecutive blocks of "
                "equal shape that get new rows; use expansion=net2wider, or a model with more layers"
            )
        return target

    def rows(self, growth: Growth, name: str, maps: Maps) -> torch.Tensor:
        """The rows of a tensor: those of old channels from its own block, those of new ones from the next block.

        Args:
            growth: the networks.
            name: of the tensor.
            maps: per group the index map (C',).

        Returns:
            The tensor with the rows of the larger network.
        """
        tensor = super().rows(growth, name, maps)
        block, rest = growth.place(name)
        above = _next_blocks(growth.base, growth.old).get(block)
        if above is None:
            return tensor
        from_next = self.copied_rows(growth, name, maps, growth.small[above + rest])
        for dim, axes in enumerate(zip(growth.old.tensors[name], growth.new.tensors[name], strict=True)):
            if axes[1].role == "out" and tensor.dim():
                old = kept_entries(*axes, growth.old, growth.new)
                from_next = from_next.index_copy(dim, old, tensor.index_select(dim, old))
        return from_next


def _gets_rows(name: str, old: Table, new: Table) -> bool:
    """Whether a tensor has more outputs in the larger network."""
    sizes = zip(new.tensors[name], old.shape(name), new.shape(name), strict=True)
    return any(axis.role == "out" and after > before for axis, before, after in sizes)


def _next_blocks(base: Architecture, table: Table) -> dict[str, str]:
    """For each block the next one in its stage, if it has the same shapes."""
    return {
        block: after
        for stage in base.blocks()
        for block, after in itertools.pairwise(stage)
        if alike(table, block, table, after)
    }
