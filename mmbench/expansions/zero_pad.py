"""`zero_pad`: new units with random incoming and zero outgoing weights (Gesmundo and Maile, 2023, arXiv:2308.06103).

Old units do not read the new ones, so the function is exactly that of the small network. The new units have
activations, so their outgoing weights learn from the first step. (With zero incoming weights instead, ReLU units would
be dead.)
"""

from __future__ import annotations

from typing import Literal

import torch

from mmbench.errors import UndefinedError
from mmbench.expansions.base import EXPANSIONS
from mmbench.expansions.sized import grown_coupled_groups
from mmbench.expansions.widening import Padding, Widening, put
from mmbench.models.table import Axis, Table


@EXPANSIONS.register("zero_pad")
class ZeroPad(Widening, Padding):
    """Random in, zero out."""

    preserves = "exact"

    axis: Literal["width", "first", "convolutions", "stream", "hidden", "heads"] = "width"
    """`width`: all channels; `first`: those of the first layer only; `convolutions`: those of all convolutions only;
    `stream`: the residual stream only; `hidden`: the units inside the blocks only; `heads`: attention heads only."""

    def check(self, old: Table, new: Table) -> None:
        """Raise for new channels under a LayerNorm or in attention, where they would change the result of old ones."""
        super().check(old, new)
        for name in grown_coupled_groups(old, new):
            raise UndefinedError(
                f"zero_pad cannot add channels to the group {name!r}: {self.why(new, name)}, and new channels would "
                "change its result; use expansion.axis=hidden"
            )

    def new_entries(self, tensor: torch.Tensor, axes: tuple[Axis, ...], kept: list[torch.Tensor]) -> None:
        """Set to zero the columns through which an old row would read a new unit; new rows keep all columns.

        Args:
            tensor: of the larger network's shape, its initialisation.
            axes: of the tensor.
            kept: for each axis the positions of the small network's entries.
        """
        columns = next((dim for dim, axis in enumerate(axes) if axis.role == "in"), None)
        if columns is None:
            return
        new = torch.ones(tensor.shape[columns], dtype=torch.bool)
        new[kept[columns]] = False
        where = list(kept)
        where[columns] = new.nonzero().flatten()
        put(tensor, where, 0.0)
