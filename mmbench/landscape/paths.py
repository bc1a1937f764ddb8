"""Losses on the straight line between two networks, and the barrier on it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmbench.landscape.surface import Surface


class Place(NamedTuple):
    """A network's parameters (P,) and its floating-point buffers (running statistics), each flat."""

    parameters: Tensor
    buffers: Tensor


def place(model: nn.Module) -> Place:
    """A copy of a network's parameters, trainable or not, and of its floating-point buffers."""
    parameters = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    buffers = [b.flatten() for b in _buffers(model)]
    return Place(parameters, torch.cat(buffers) if buffers else parameters.new_zeros(0))


def move(surface: Surface, a: Place, b: Place, alpha: float) -> None:
    """Set the surface's model to (1 - alpha) a + alpha b; running statistics are interpolated, too.

    Args:
        surface: whose model is moved.
        a: the network at alpha = 0.
        b: the network at alpha = 1.
        alpha: any number.
    """
    set_place(surface, Place(torch.lerp(a.parameters, b.parameters, alpha), torch.lerp(a.buffers, b.buffers, alpha)))


def set_place(surface: Surface, at: Place) -> None:
    """Set the surface's model to these parameters and buffers."""
    surface.point.copy_(at.parameters)
    with torch.no_grad():
        buffers = _buffers(surface.model)
        for buffer, values in zip(buffers, at.buffers.split([b.numel() for b in buffers]), strict=True):
            buffer.copy_(values.view_as(buffer))


def barrier(losses: Sequence[float], alphas: Sequence[float] | None = None) -> float:
    """sup over alpha of L((1 - alpha) a + alpha b) - [(1 - alpha) L(a) + alpha L(b)] (Entezari et al., 2022).

    Args:
        losses: L at growing alpha from 0 to 1, both ends included.
        alphas: where they were taken; equally spaced by default.

    Returns:
        Zero or more, since the ends are included; infinite if a loss is not a finite number.
    """
    if not all(map(math.isfinite, losses)):
        return math.inf
    last = len(losses) - 1
    at = [i / last for i in range(last + 1)] if alphas is None else alphas
    inner = zip(losses[1:-1], at[1:-1], strict=True)
    return max([0.0, *(loss - ((1 - alpha) * losses[0] + alpha * losses[-1]) for loss, alpha in inner)])


def _buffers(model: nn.Module) -> list[Tensor]:
    return [b for b in model.buffers() if b.is_floating_point()]
