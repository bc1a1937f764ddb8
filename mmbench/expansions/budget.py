"""Solve for the factor that brings an expanded network to a parameter budget.

Parameter counts come from the axis tables in closed form, so nothing is built. Sizes are integers, so the count is a
step function of the factor; the solver finds the step where it crosses the target and takes the nearer side.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from mmbench.data.base import InputShape
from mmbench.errors import UndefinedError
from mmbench.models.base import Architecture

LARGEST_FACTOR = 64.0


def solve(
    grow: Callable[[float], Architecture], base: Architecture, shape: InputShape, budget: float, tolerance: float
) -> float:
    """A factor f at which `grow(f)` has `budget` times the parameters of `base`, within `tolerance`.

    Args:
        grow: the larger architecture for a factor; its parameter count must not fall as the factor rises.
        base: the architecture that is expanded.
        shape: what the networks are built for.
        budget: target count as a multiple of the base's.
        tolerance: allowed relative difference between the count reached and the target.

    Raises:
        UndefinedError: no factor comes close enough; the message gives the nearest counts.
    """
    smallest = base.parameters(shape)
    target = budget * smallest

    def count(factor: float) -> int:
        return grow(factor).parameters(shape)

    below, above = 1.0, 2.0
    while count(above) < target:
        below, above = above, above * 2
        if above > LARGEST_FACTOR:
            raise UndefinedError(f"expansion.budget = {budget:g} needs a factor above {LARGEST_FACTOR:g}")
    while above - below > 1e-6:
        middle = (below + above) / 2
        below, above = (middle, above) if count(middle) < target else (below, middle)
    larger = [factor for factor in (above, below) if count(factor) > smallest]
    nearest = min(larger, key=lambda factor: abs(count(factor) - target))
    miss = count(nearest) / target - 1
    if abs(miss) > tolerance:
        multiples = " and ".join(f"{count(f):,} ({count(f) / target * budget:.2f}x)" for f in (below, above))
        raise UndefinedError(
            f"no size of this network comes within {tolerance:.1%} of expansion.budget = {budget:g} "
            f"({target:,.0f} parameters); the nearest counts are {multiples}"
        )
    return _simplest(count, nearest)


def _simplest(count: Callable[[float], int], factor: float) -> float:
    """The factor rounded to the fewest decimals that give the same count, for tables that people read."""
    for digits in range(6):
        step = 10.0**-digits
        for rounded in (math.floor(factor / step) * step, math.ceil(factor / step) * step):
            if rounded >= 1 and count(round(rounded, digits)) == count(factor):
                return round(rounded, digits)
    return factor
