"""`random_pad`: the small network in one corner, the rest freshly initialised. The function is not kept."""

from __future__ import annotations

import torch

from mmbench.expansions.base import EXPANSIONS
from mmbench.expansions.widening import Padding, Widening
from mmbench.models.table import Axis


@EXPANSIONS.register("random_pad")
class RandomPad(Widening, Padding):
    """New rows and new columns both random: old units see the new ones from the first step."""

    preserves = "no"

    def new_entries(self, tensor: torch.Tensor, axes: tuple[Axis, ...], kept: list[torch.Tensor]) -> None:
        """Keep the initialisation of new entries.

        Args:
            tensor: of the larger network's shape, its initialisation.
            axes: of the tensor.
            kept: for each axis the positions of the small network's entries.
        """
