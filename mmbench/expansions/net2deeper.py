"""`net2deeper`: insert layers that are the identity (Chen, Goodfellow and Shlens, 2016, arXiv:1511.05641).

A new layer has the identity matrix as its weight and no bias. It follows a ReLU and has one of its own, and
ReLU(ReLU(x)) = ReLU(x): the function is kept exactly. (GELU is not idempotent, and in a residual block the layer would
have to stand inside it, so the operator is for plain networks.)
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
    """More layers, the identity at first; each follows an old one and is as wide."""

    preserves = "exact"
    families = ("mlp",)

    axis: Literal["depth"] = "depth"
    """Depth only."""

    def because(self, base: Architecture) -> str:
        """Residual networks have blocks."""
        return ", whose layers stand in residual blocks (expansion=identity_block inserts those)"

    def arrange(self, old: list[str], new: list[str], tables: tuple[Table, Table]) -> list[str | None]:
        """New layers shared out among the old ones."""
        return [None if origin is None else old[origin] for origin in interleaved(len(old), len(new))]

    def fill(self, growth: Growth) -> Filled:
        """Old layers at their new places, identities between."""
        for name, fresh in growth.fresh.items():
            source = growth.source(name)
            if source is not None:
                yield name, growth.small[source]
            elif fresh.dim() == 2:
                yield name, torch.eye(len(fresh), dtype=fresh.dtype)
            else:
                yield name, fresh.zero_()
