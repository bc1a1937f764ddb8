"""`hypercloning`: tile the whole network k times, W / k in k x k blocks (Samragh et al., 2024, arXiv:2409.12903).

Noise that adds up to zero over the copies of a unit makes them part: W / k + N and W / k - N for k = 2. The channels of
a head can be tiled instead of the heads (`axis=head_dim`).
"""

from __future__ import annotations

from typing import Self

import torch
from pydantic import Field, model_validator

from mmbench.errors import UndefinedError
from mmbench.expansions.base import EXPANSIONS
from mmbench.expansions.copying import Copying, split_columns, tiled
from mmbench.models.table import Group, Table


@EXPANSIONS.register("hypercloning")
class HyperCloning(Copying):
    """Every channel k times; exact on every family, for integer factors."""

    preserves = "exact"

    snr_db: float | None = Field(10.0, ge=-40, le=120)
    """Power of W / k over the noise's, in decibels; null for no noise, which needs allow_symmetric."""
    allow_symmetric: bool = False
    """Allow copies without noise, which never part."""

    @model_validator(mode="after")
    def _symmetry_is_meant(self) -> Self:
        if self.snr_db is None and not self.allow_symmetric:
            raise ValueError(
                "expansion.snr_db = null makes copies that stay identical for ever; give a number such as 10, or set "
                "expansion.allow_symmetric=true if that is what you want"
            )
        return self

    def whole(self, old: Table, new: Table) -> bool:
        """Always."""
        return True

    def check(self, old: Table, new: Table) -> None:
        """Every group must grow by an integer factor."""
        super().check(old, new)
        for name, group in new.groups.items():
            if group.size % old.groups[name].size:
                raise UndefinedError(
                    f"hypercloning copies the whole network: {old.groups[name].size} -> {group.size} channels in the "
                    f"group {name!r} is no integer factor; use an integer expansion.factor, or expansion=net2wider"
                )

    def index_map(self, old: Group, new: Group, generator: torch.Generator) -> torch.Tensor:
        """Tiles."""
        return tiled(old, new)

    def share(self, tensor: torch.Tensor, fresh: torch.Tensor, index: torch.Tensor, generator: torch.Generator) -> None:
        """Equal shares, with noise that cancels."""
        if self.snr_db is None:
            split_columns("equal", tensor, fresh, index, generator)
        else:
            split_columns("paired", tensor, fresh, index, generator, self.snr_db)
