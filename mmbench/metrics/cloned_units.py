"""Cloned units: the share of units that do the same as another unit of their layer.

Unit i is a clone if an earlier unit k of its layer has |h_i - h_k| <= tau |h_i| over all images and positions, and h_i
is not zero everywhere (see `dormant_units`). Every call of an activation module is a layer; the score is the share over
all of them. Clones with the same outgoing weights get the same gradients and stay clones for ever (Simsek et al.,
2021), so the expected sign is -1. It is 1 - 1 / factor right after a widening by copies.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from mmbench.metrics._activations import activations
from mmbench.metrics.base import METRICS, Estimate, Metric
from mmbench.metrics.subject import Subject


@METRICS.register("cloned_units")
class ClonedUnits(Metric):
    """Share of units that have a clone before them, in [0, 1); exact, given the images."""

    expected_sign = -1

    tau: float = Field(1e-3, ge=0, lt=1)
    """Relative difference of activations at which two units count as the same."""
    images: int = Field(64, ge=1)
    """Training images used."""

    def measure(self, subject: Subject) -> Estimate:
        """The share; `details` has the number of units."""
        cloned = units = 0
        for layer in activations(subject, self.images):
            cloned += _clones(layer.double().flatten(0, -2), self.tau)
            units += layer.shape[-1]
        return Estimate(cloned / units, 0.0, details={"units": float(units)})


def _clones(rows: Tensor, tau: float) -> int:
    """Columns of `rows` (places, units) that equal an earlier one and are not zero."""
    units = rows.T.contiguous()
    lengths = torch.linalg.vector_norm(units, dim=1)
    kept = lengths > 0
    units, lengths = units[kept], lengths[kept]
    near = torch.cdist(units, units, compute_mode="donot_use_mm_for_euclid_dist") <= tau * lengths[:, None]
    return int(near.tril(-1).any(1).sum())
