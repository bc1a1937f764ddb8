"""`hypercloning`: tile the whole network k times, W / k in k x k blocks (Samragh et al., 2024, arXiv:2409.12903).

Noise that adds up to zero over the copies of a unit makes them different: W / k + N and W / k - N for k = 2. With
`axis=head_dim` the channels of a head are tiled instead of the heads.
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
    """Power of W / k over that of the noise, in decibels; null for no noise, which needs allow_symmetric."""
    allow_symmetric: bool = False
    """Allow copies without noise, which stay equal."""

    @model_validator(mode="after")
    def _symmetry_is_meant(self) -> Self:
        if self.snr_db is None and not self.allow_symmetric:
            raise ValueError(
                "expansion.snr_db = null makes copies that stay equal in training; give a number such as 10, or set "
                "expansion.allow_symmetric=true if you want that"
            )
        return self

    def whole(self, old: Table, new: Table) -> bool:
        """True: every group is tiled as a whole."""
        return True

    def check(self, old: Table, new: Table) -> None:
        """Every group must grow by an integer factor."""
        super().check(old, new)
        for name, group in new.groups.items():
            if group.size % old.groups[name].size:
                raise UndefinedError(
                    f"hypercloning copies the whole network: {old.groups[name].size} -> {group.size} channels in the "
                    f"group {name!r} is not an integer factor; use an integer expansion.factor, or expansion=net2wider"
                )

    def index_map(self, old: Group, new: Group, generator: torch.Generator) -> torch.Tensor:
        """The identity k times.

        Args:
            old: the small network's group.
            new: the larger network's.
            generator: not used.

        Returns:
            (C',) the old channel that each new one copies.
        """
        return tiled(old, new)

    def share(self, tensor: torch.Tensor, fresh: torch.Tensor, index: torch.Tensor, generator: torch.Generator) -> None:
        """Equal shares among the copies, with noise that cancels.

        Args:
            tensor: (rows, old columns, ...), the small network's weights.
            fresh: (rows, new columns, ...), the larger network's initialisation; filled in place.
            index: (new columns,) the old column that each new one copies.
            generator: of the noise.
        """
        if self.snr_db is None:
            split_columns("equal", tensor, fresh, index, generator)
        else:
            split_columns("paired", tensor, fresh, index, generator, self.snr_db)
