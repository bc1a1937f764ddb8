"""Dormant units: the share of units that hardly respond to any image (Sokar et al., 2023).

Unit i of a layer of H units is dormant if E|h_i| <= tau (1/H) sum_k E|h_k|, the means over images and positions of its
activation h. Every call of an activation module (ReLU, GELU, ...) is a layer; the score is the share over all of them.
A layer that is silent altogether is dormant. Dormant units do not learn, so the expected sign is -1. New units with
random incoming weights are not dormant, even if their outgoing weights are zero.
"""

from __future__ import annotations

from pydantic import Field

from mmbench.metrics._activations import activations
from mmbench.metrics.base import METRICS, Estimate, Metric
from mmbench.metrics.subject import Subject


@METRICS.register("dormant_units")
class DormantUnits(Metric):
    """Share of dormant units, in [0, 1]; exact, given the images."""

    expected_sign = -1

    tau: float = Field(0.025, ge=0)
    """Mean activation, relative to the layer's, at which a unit counts as dormant."""
    images: int = Field(256, ge=1)
    """Training images used."""

    def measure(self, subject: Subject) -> Estimate:
        """The share; `details` has the number of units."""
        dormant = units = 0
        for layer in activations(subject, self.images):
            size = layer.double().abs().flatten(0, -2).mean(0)
            dormant += int((size <= self.tau * size.mean()).sum())
            units += len(size)
        return Estimate(dormant / units, 0.0, details={"units": float(units)})
