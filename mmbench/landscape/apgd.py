"""Auto-PGD: the largest loss in a ball around a network, without a step size to choose (Croce and Hein, 2020)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mmbench.landscape.perturbations import norm as length_of
from mmbench.landscape.perturbations import normal
from mmbench.landscape.surface import Surface

Norm = Literal["l2", "linf"]
NEW = 0.75
"""Weight of the new step; the rest is momentum."""
SUCCESSES = 0.75
"""The step size is halved if a smaller share of the steps since the last checkpoint raised the loss."""


@dataclass(frozen=True)
class Ball:
    """All e with ||e / scale|| <= rho, in the coordinates u = e / scale; weights with scale 0 do not move."""

    rho: float
    norm: Norm
    scale: Tensor | None = None

    def steepest(self, gradient: Tensor) -> tuple[Tensor, float]:
        """The u along which the loss rises most, and its norm; overwrites its gradient with respect to e, (P,)."""
        if self.scale is not None:
            gradient.mul_(self.scale)
        return (gradient.sign_(), 1.0) if self.norm == "linf" else (gradient, length_of(gradient))

    def somewhere(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """A random u on the boundary: uniform on the sphere, or a random corner of the cube."""
        u = normal(like, generator)
        return u.sign_().mul_(self.rho) if self.norm == "linf" else u.mul_(self.rho / length_of(u))

    def project(self, u: Tensor) -> Tensor:
        """The nearest u inside, in place."""
        if self.norm == "linf":
            return u.clamp_(-self.rho, self.rho)
        length = length_of(u)
        return u.mul_(self.rho / length) if length > self.rho else u

    def move(self, surface: Surface, start: Tensor, u: Tensor) -> None:
        """Put the surface's model at start + scale u.

        Args:
            surface: the loss whose model is moved.
            start: centre of the ball, (P,).
            u: coordinates in the ball, (P,).
        """
        if self.scale is None:
            torch.add(start, u, out=surface.point)
        else:
            torch.addcmul(start, self.scale, u, out=surface.point)


def largest_loss(surface: Surface, ball: Ball, steps: int, first: Tensor | None = None) -> tuple[float, float]:
    """The loss at the first point and the largest loss visited; costs `steps` gradients and one forward pass.

    Each step goes along the steepest direction, with momentum, and is projected back into the ball. At checkpoints,
    which become more frequent, the step size is halved if the loss no longer rises often enough, and the search
    continues from the best point.

    Args:
        surface: the loss; its point is the centre of the ball, and is restored afterwards.
        ball: where to search.
        steps: gradient steps.
        first: the u (P,) to start from; the centre if it is not given. It may be overwritten.

    Returns:
        Both losses in nats; the largest is infinite if any loss was not a finite number.
    """
    start = surface.point.clone()
    u = torch.zeros_like(start) if first is None else first
    previous, eta, checkpoints = u, 2 * ball.rho, _checkpoints(steps)
    losses: list[float] = []
    best, since, best_since, halved = -math.inf, 0, -math.inf, False
    for step in range(steps):
        ball.move(surface, start, u)
        loss, gradient = surface.loss_and_gradient()
        losses.append(loss)
        if not math.isfinite(loss):
            break
        direction, length = ball.steepest(gradient)
        if loss > best:
            best, best_u, best_direction, best_length = loss, u, direction, length
        if step in checkpoints:
            successes = sum(losses[i + 1] > losses[i] for i in range(since, step))
            halved = successes < SUCCESSES * (step - since) or (not halved and best == best_since)
            if halved:
                eta, u, previous, direction, length = eta / 2, best_u, best_u, best_direction, best_length
            since, best_since = step, best
        weight = NEW if step else 1.0
        z = ball.project(torch.add(u, direction, alpha=eta / length))
        # u + weight (z - u) + (1 - weight) (u - previous)
        new = z.mul_(weight).add_(u, alpha=2 * (1 - weight)).sub_(previous, alpha=1 - weight)
        previous, u = u, ball.project(new)
    else:
        ball.move(surface, start, u)
        losses.append(surface.loss())
    surface.point.copy_(start)
    return losses[0], max(losses) if all(map(math.isfinite, losses)) else math.inf


def _checkpoints(steps: int) -> set[int]:
    """ceil(p_j steps): p_0 = 0, p_1 = 0.22, and each gap is 0.03 shorter than the last but at least 0.06."""
    before, now, checkpoints = 0.0, 0.22, set()
    while now < 1:
        checkpoints.add(math.ceil(now * steps))
        before, now = now, now + max(now - before - 0.03, 0.06)
    return checkpoints
