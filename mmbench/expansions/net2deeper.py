"""`net2deeper`: insert layers that are the identity (Chen, Goodfellow and Shlens, 2016, arXiv:1511.05641).

A new layer has the identity matrix as its weight and a bias of zero. It follows a ReLU and is followed by one, and
ReLU(ReLU(x)) = ReLU(x), so the function is kept exactly. The operator is for plain networks: a GELU applied twice is
not one GELU, and in a residual network the layer would have to be inside a block.
"""

from __future__ import annotations

from typing import Literal

import torch

from mmbench.expansions.base import EXPANSIONS, Filled, Growth
from mmbench.expansions.sized import Sized
from mmbench.models.base import Architecture, interleaved
from mmbench.models.table import Table


@EXPANSIONS.register("net2deeper")
class Net2Deeper(Sized):
    """More layers, the identity before training, each as wide as the old layer that it follows."""

    preserves = "exact"
    families = ("mlp",)

    axis: Literal["depth"] = "depth"
    """Depth only."""

    def because(self, base: Architecture) -> str:
        """The layers of residual networks are in blocks."""
        return ", whose layers are in residual blocks (expansion=identity_block inserts those)"

    def arrange(self, old: list[str], new: list[str], tables: tuple[Table, Table]) -> list[str | None]:
        """Put new layers evenly among the old ones.

        Args:
            old: the small network's layers, in forward order.
            new: the larger network's.
            tables: the axis tables of both.

        Returns:
            For each layer in `new` the layer in `old` that it continues, or None.
        """
        return [None if origin is None else old[origin] for origin in interleaved(len(old), len(new))]

    def fill(self, growth: Growth) -> Filled:
        """Old layers at their new places, identities between them."""
        for name, fresh in growth.fresh.items():
            source = growth.source(name)
            if source is not None:
                yield name, growth.small[source]
            elif fresh.dim() == 2:
                yield name, torch.eye(len(fresh), dtype=fresh.dtype)
            else:
                yield name, fresh.zero_()
