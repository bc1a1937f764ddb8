"""The highest point of a loss over the straight line between two networks, also between the places first looked at."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from mmbench.data.base import Split
from mmbench.landscape.paths import move, place
from mmbench.landscape.surface import Surface
from mmbench.models.copies import copied

PLACES = 15
"""Equally spaced places inside the line; a peak as wide as a tenth of the line cannot hide between them."""
SEARCH = 8
"""Steps of the golden-section search around the highest; each shrinks the bracket to 0.618 of its length."""
GOLDEN = (5**0.5 - 1) / 2


def height(loss: Callable[[float], float], places: int = PLACES) -> float:
    """sup over alpha of L(alpha) - [(1 - alpha) L(0) + alpha L(1)], alpha in [0, 1] (Entezari et al., 2022).

    A grid, then a golden-section search between the neighbours of its highest place.

    Args:
        loss: L, by alpha.
        places: of the grid, inside the line.

    Returns:
        Zero or more; infinite if a loss is not a finite number.
    """
    first, last = loss(0.0), loss(1.0)

    def above(alpha: float) -> float:
        value = loss(alpha) - ((1 - alpha) * first + alpha * last)
        return value if math.isfinite(value) else math.inf

    gap = 1 / (places + 1)
    grid = {i * gap: above(i * gap) for i in range(1, places + 1)}
    best = max(grid, key=grid.__getitem__)
    low, high, top = best - gap, best + gap, grid[best]
    inner, outer = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    left, right = above(inner), above(outer)
    for _ in range(SEARCH if math.isfinite(top) else 0):
        top = max(top, left, right)
        if left > right:
            high, outer, right = outer, inner, left
            inner = high - GOLDEN * (high - low)
            left = above(inner)
        else:
            low, inner, left = inner, outer, right
            outer = low + GOLDEN * (high - low)
            right = above(outer)
    return max(0.0, top, left, right)


def barrier_between(a: nn.Module, b: nn.Module, images: Split, places: int = PLACES) -> float:
    """The barrier between two networks of the same shapes, with batch norms on the statistics of the images.

    Args:
        a: a network, which is not changed.
        b: another.
        images: on which the loss is taken.
        places: as in `height`.

    Returns:
        Nats, zero or more; infinite where a loss is not finite.
    """
    walker = Surface(copied(a).requires_grad_(), images, batch_statistics=True)
    ends = place(a), place(b)

    def loss(alpha: float) -> float:
        move(walker, *ends, alpha)
        return walker.loss()

    with torch.no_grad():
        return height(loss, places)
