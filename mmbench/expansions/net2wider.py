"""`net2wider`: duplicate units and split their outgoing weights (Chen, Goodfellow and Shlens, 2016, arXiv:1511.05641).

The units to copy are drawn at random. How their outgoing weights are shared among the copies decides how fast the
copies become different; see `mmbench.expansions.copying.split_columns`. With `split=equal` the copies receive the same
gradients at every step and the network gains no capacity, so this split needs `allow_symmetric`.

A group that a LayerNorm normalises must grow by an integer factor: only whole copies keep the mean and the variance.
"""

from __future__ import annotations

from typing import Self

import torch
from pydantic import model_validator

from mmbench.expansions.base import EXPANSIONS
from mmbench.expansions.copying import Copying, Split, split_columns


@EXPANSIONS.register("net2wider")
class Net2Wider(Copying):
    """Duplicate units; exact on every family."""

    preserves = "exact"

    split: Split = "projection"
    """How a unit's outgoing weights are shared among its copies."""
    allow_symmetric: bool = False
    """Allow `split=equal`, whose copies stay equal."""

    @model_validator(mode="after")
    def _symmetry_is_meant(self) -> Self:
        if self.split == "equal" and not self.allow_symmetric:
            raise ValueError(
                "expansion.split = equal makes copies that stay equal in training; use projection, unequal or paired, "
                "or set expansion.allow_symmetric=true if you want that"
            )
        return self

    def share(self, tensor: torch.Tensor, fresh: torch.Tensor, index: torch.Tensor, generator: torch.Generator) -> None:
        """Share columns among copies by the rule `split`.

        Args:
            tensor: (rows, old columns, ...), the small network's weights.
            fresh: (rows, new columns, ...), the larger network's initialisation; filled in place.
            index: (new columns,) the old column that each new one copies.
            generator: of the random draws.
        """
        split_columns(self.split, tensor, fresh, index, generator)
