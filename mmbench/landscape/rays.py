"""How far one can go from a network along a ray before its predictions change."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mmbench.landscape.surface import Surface

TOLERANCE = 0.02
"""Of log KL at the last point tried; the last step along the line makes the radius better than half of it."""
JUMP = 1e-6
"""Where the bracket of log radius is as narrow as this, the divergence jumps over the cutoff."""
STEEPEST, LONGEST = 30.0, 2.0
"""Limits of |log KL - log cutoff|, and of a step in log radius."""
QUICK, TRIES = 8, 60
"""Steps along the line before the bracket is halved instead, and steps in all."""


class Reach(NamedTuple):
    """Where a ray crosses the cutoff."""

    log_radius: float
    state: int
    """0 at a crossing, 1 where none was met up to the largest radius, -1 where the search did not converge."""
    tries: int


class Divergence:
    """KL(p_w0 || p_w) in nats, the mean over the images, as a function of w; w_0 is the surface's point."""

    def __init__(self, surface: Surface) -> None:
        self.surface, self.start = surface, surface.point.clone()
        self._anchor = surface.logits().double().log_softmax(1)

    def __call__(self, direction: Tensor, radius: float) -> float:
        """At w_0 + radius direction; infinite where the logits are not finite."""
        torch.add(self.start, direction, alpha=radius, out=self.surface.point)
        logits = self.surface.logits().double()
        self.surface.point.copy_(self.start)
        divergence = float((self._anchor.exp() * (self._anchor - logits.log_softmax(1))).sum(1).mean())
        return divergence if math.isfinite(divergence) else math.inf


def reach(divergence: Divergence, direction: Tensor, cutoff: float, first: float, largest: float) -> Reach:
    """The radius at which the divergence along a unit direction is `cutoff`.

    On a log-log scale the divergence is nearly a line of slope 2, so steps along it find a bracket and close it; a step
    out of the bracket is replaced by the middle. If the divergence crosses the cutoff more than once, the result is one
    of the crossings.

    Args:
        divergence: as a function of direction and radius.
        direction: (P,), of length 1.
        cutoff: in nats.
        first: log of the radius to begin with.
        largest: log of the largest radius to try.

    Returns:
        The log of the radius, and how the search ended.
    """
    low, high, x, slope = -math.inf, math.inf, min(first, largest), 2.0
    before: tuple[float, float] | None = None
    for tries in range(1, TRIES + 1):
        height = _log(divergence(direction, math.exp(x)) / cutoff)
        if before:
            slope = min(8.0, max(0.5, (height - before[1]) / (x - before[0])))
        if abs(height) < TOLERANCE:
            return Reach(x - height / slope, 0, tries)
        if height < 0 and x >= largest:
            return Reach(largest, 1, tries)
        low, high, before = (x, high, (x, height)) if height < 0 else (low, x, (x, height))
        if high - low < JUMP:
            return Reach((low + high) / 2, 0, tries)
        x = min(largest, x - min(LONGEST, max(-LONGEST, height / slope)))
        if not low < x < high or (tries >= QUICK and math.isfinite(high - low)):
            x = (low + high) / 2
    return Reach(x, -1, TRIES)


def _log(ratio: float) -> float:
    return (
        min(STEEPEST, max(-STEEPEST, math.log(ratio))) if 0 < ratio < math.inf else math.copysign(STEEPEST, ratio - 1)
    )
