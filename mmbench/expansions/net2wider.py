"""`net2wider`: duplicate units and split their outgoing weights (Chen, Goodfellow and Shlens, 2016, arXiv:1511.05641).

The units to copy are drawn at random. How their outgoing weights are shared among the copies decides how fast these
part; see `mmbench.expansions.copying.split_columns`. With `split=equal` the copies receive the same gradients for ever
and no capacity is gained, so it must be asked for with `allow_symmetric`.

Where a LayerNorm runs over a group, only whole copies of it keep the mean and variance: its factor must be an integer.
"""

from __future__ import annotations

from typing import Self

import torch
from pydantic import model_validator

from mmbench.expansions.base import EXPANSIONS
from mmbench.expansions.copying import Copying, Split, shuffled, split_columns
from mmbench.models.table import Group


@EXPANSIONS.register("net2wider")
class Net2Wider(Copying):
    """Duplicate units; exact on every family."""

    preserves = "exact"

    split: Split = "projection"
    """How a unit's outgoing weights are shared among its copies."""
    allow_symmetric: bool = False
    """Allow `split=equal`, whose copies never part."""

    @model_validator(mode="after")
    def _symmetry_is_meant(self) -> Self:
        if self.split == "equal" and not self.allow_symmetric:
            raise ValueError(
                "expansion.split = equal makes copies that stay identical for ever; use projection, unequal or paired, "
                "or set expansion.allow_symmetric=true if that is what you want"
            )
        return self

    def index_map(self, old: Group, new: Group, generator: torch.Generator) -> torch.Tensor:
        """Shuffled rounds."""
        return shuffled(old, new, generator)

    def share(self, tensor: torch.Tensor, fresh: torch.Tensor, index: torch.Tensor, generator: torch.Generator) -> None:
        """By `split`."""
        split_columns(self.split, tensor, fresh, index, generator)
