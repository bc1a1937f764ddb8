"""The control `scratch_matched`: `scratch`, trained longer by the compute that the base model's training took.

An expansion pays for two trainings, the base model's and its own; `scratch` pays for one. Here a fresh network gets
both: steps' = steps (1 + F_base / F_large) with F the floating-point operations of one forward pass.
"""

from __future__ import annotations

import math

from mmbench.expansions.base import EXPANSIONS
from mmbench.expansions.scratch import Scratch


@EXPANSIONS.register("scratch_matched")
class ScratchMatched(Scratch):
    """A fresh large network at equal total compute."""

    def training_steps(self, steps: int, base_flops: int, flops: int) -> int:
        """The steps of the base model's training, and those of equal compute on the large network.

        Args:
            steps: of the base model's training.
            base_flops: operations of one forward pass of the base model.
            flops: operations of one forward pass of the large network.

        Returns:
            Optimiser steps, rounded up.
        """
        return steps + math.ceil(steps * base_flops / flops)
