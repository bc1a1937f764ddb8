"""Solve for the sizes that bring an expanded network to a parameter count.

Counts come from the axis tables in closed form, so no network is built. Sizes are integers, so the count is a step
function of the factor. The solver finds, by bisection, the step at which the count crosses the target. Where single
stages can grow on their own, it then starts from the sizes below that step and adds units, the largest that still fits
first: a depth of (2, 2, 2) may become (2, 2, 3) or (4, 2, 2) before the next common step, (3, 3, 3).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from functools import cache

from mmbench.data.base import InputShape
from mmbench.errors import UndefinedError
from mmbench.models.base import Architecture

LARGEST_FACTOR = 64.0
Grow = Callable[[Architecture], Architecture]


def solve(
    base: Architecture,
    shape: InputShape,
    axis: str,
    target: int,
    wanted: str,
    tolerance: float,
    *,
    whole: bool = False,
    finish: Grow = lambda grown: grown,
    smallest: int | None = None,
    finer: str = "",
) -> Architecture:
    """Grow an architecture along an axis to a parameter count; no size shrinks.

    Args:
        base: the architecture that is expanded.
        shape: what the networks are built for.
        axis: along which it grows.
        target: the parameter count.
        wanted: the option that sets it, for the error.
        tolerance: allowed relative difference between the count reached and the target.
        whole: allow integer factors only.
        finish: applied to the larger architecture before its parameters are counted.
        smallest: the count of the base model, for multiples in the error; that of `base` unless given.
        finer: a hint at an axis with finer steps, for the error.

    Returns:
        The larger architecture, before `finish`.

    Raises:
        UndefinedError: no size comes close enough; the message gives the nearest counts.
    """
    smallest = smallest or base.parameters(shape)
    limit = ""

    @cache  # the search visits the same sizes several times
    def count(architecture: Architecture) -> int:
        return finish(architecture).parameters(shape)

    def grown(factor: float) -> Architecture:
        return base.grown(axis, math.floor(factor) if whole else factor)

    def too_small(factor: float) -> bool:
        nonlocal limit
        try:
            architecture = grown(factor)
        except UndefinedError as error:  # beyond the family's largest sizes
            limit = f" ({error})"
            return False
        return architecture == base or count(architecture) < target

    below, above = 1.0, 2.0
    while too_small(above):
        below, above = above, above * 2
        if above > LARGEST_FACTOR:
            raise UndefinedError(f"{wanted} needs a factor above {LARGEST_FACTOR:g} along {axis}")
    while above - below > 1e-6:
        middle = (below + above) / 2
        below, above = (middle, above) if too_small(middle) else (below, middle)
    candidates = [grown(below)]
    with contextlib.suppress(UndefinedError):
        candidates.append(grown(above))
    if not whole:
        candidates = _filled_up(candidates, axis, target, count)
    nearest = min((a for a in candidates if a != base), key=lambda a: abs(count(a) - target), default=None)
    if nearest is None or abs(count(nearest) / target - 1) > tolerance:
        counts = {count(a) for a in candidates}
        sides = [max((c for c in counts if c < target), default=0), min((c for c in counts if c >= target), default=0)]
        multiples = " and ".join(f"{c:,} ({c / smallest:.2f}x)" for c in sides if c)
        near = nearest is not None and abs(count(nearest) / target - 1) <= 0.05
        hint = "; expansion.tolerance may be up to 0.05" if near else "" if sides[1] else limit
        hint += finer if finer and sides[1] else ""
        raise UndefinedError(
            f"no size of this network along {axis} comes within {tolerance:.1%} of {wanted} ({target:,} parameters); "
            f"the nearest counts are {multiples}{hint}"
        )
    return nearest


def _filled_up(
    candidates: list[Architecture], axis: str, target: int, count: Callable[[Architecture], int]
) -> list[Architecture]:
    """Add the sizes between the two common steps that can be reached from the lower one by growing single stages."""
    current = candidates[0]
    while True:
        larger = list(current.increments(axis))
        candidates.extend(a for a in larger if count(a) >= target)
        fitting = [a for a in larger if count(a) < target]
        if not fitting:
            return [*candidates, current]
        best = max(fitting, key=count)
        place, step = larger.index(best), count(best) - count(current)
        units = (target - 1 - count(current)) // step
        jump = [*current.increments(axis, units)] if units > 1 else []
        # The count is linear in the number of blocks, so many can be added at once. It is not linear in a width.
        fits = len(jump) == len(larger) and count(jump[place]) < target
        current = jump[place] if fits else best
