"""Underdamped Langevin dynamics around a network, with convergence diagnostics.

Overdamped dynamics (SGLD: Welling and Teh, 2011) needs of the order of kappa steps, the ratio of the largest to the
smallest curvature of the density, before its flattest direction has spread; underdamped dynamics needs sqrt(kappa). The
splitting is BAOAB (Leimkuhler and Matthews, 2013), whose positions are exact for a quadratic loss at any stable step.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mmbench.data.base import Split
from mmbench.landscape.perturbations import norm, normal
from mmbench.landscape.surface import Surface


class Chain(NamedTuple):
    """One chain, step by step, starting at w_0."""

    rises: Tensor
    """L_B(w_t) - L_B(w_0) on the step's batch B (steps,), float64: unbiased for L(w_t) - L(w_0), with little noise."""
    virials: Tensor
    """(w_t - w_0)' grad U(w_t) / P (steps,), U the negative log density: its mean is 1, whatever the density."""
    heats: Tensor
    """(p_t' g)^2 / |g|^2 (steps,), p_t the momentum and g the gradient of L_B: its mean is 1."""


def langevin_chain(
    surface: Surface,
    generator: torch.Generator,
    *,
    steps: int,
    step_size: float,
    temperature: float,
    localisation: float,
    batch_size: int,
) -> Chain:
    """A chain from the surface's point w_0; its density tends to exp(-U(w)).

    Here U = L / temperature + gamma |w - w_0|^2 / 2. With the time step h = sqrt(step_size), c = exp(-zeta h) and
    friction zeta = 2 sqrt(max(gamma, 1)), one step is

        p <- p - h grad U / 2;  w <- w + h p / 2;  p <- c p + sqrt(1 - c^2) N(0, I);  w <- w + h p / 2;
        p <- p - h grad U / 2.

    It is stable while step_size times the largest curvature of U is below 4. Images come in shuffled epochs; those that
    do not fill a batch are left out. The noise of batches heats the sharpest directions, which `heats` shows. A step
    costs one gradient on a batch.

    Args:
        surface: the loss L; its point is restored afterwards.
        generator: of the noise and the order of the images, on the CPU.
        steps: of the chain.
        step_size: h^2, in squared parameter units.
        temperature: in nats.
        localisation: gamma, in inverse squared parameter units.
        batch_size: images of a batch B; all of them if there are fewer.

    Returns:
        The chain; it is shorter than `steps` if it diverged.
    """
    start, anchor, images = surface.point.clone(), surface.image_losses(), surface.images
    size, h = min(batch_size, len(images)), step_size**0.5
    per_epoch, kept = len(images) // size, math.exp(-2 * h * max(localisation, 1.0) ** 0.5)
    momentum, rows = normal(start, generator), []
    for step in range(steps):
        if step % per_epoch == 0:
            order = torch.randperm(len(images), generator=generator).to(images.labels.device)
        batch = order[step % per_epoch * size :][:size]
        loss, force = surface.on(Split(images.images[batch], images.labels[batch])).loss_and_gradient()
        away, slope = surface.point - start, force.div(norm(force))
        force.div_(temperature).add_(away, alpha=localisation)
        if step:
            momentum.add_(force, alpha=-h / 2)
        row = (
            loss - float(anchor[batch].mean()),
            float(torch.dot(away, force)) / len(start),
            float(torch.dot(momentum, slope)) ** 2,
        )
        if not all(map(math.isfinite, row)):
            break
        rows.append(row)
        momentum.add_(force, alpha=-h / 2)
        surface.point.add_(momentum, alpha=h / 2)
        momentum.mul_(kept).add_(normal(start, generator), alpha=(1 - kept**2) ** 0.5)
        surface.point.add_(momentum, alpha=h / 2)
    surface.point.copy_(start)
    return Chain(*torch.tensor(rows, dtype=torch.float64).view(-1, 3).unbind(1))


def split_r_hat(draws: Tensor) -> float:
    """Split R-hat of chains (chains, draws): near 1 if their halves agree (Gelman et al., 2013)."""
    length = draws.shape[1] // 2
    halves = torch.cat([draws[:, :length], draws[:, -length:]])
    within, between = halves.var(1).mean(), halves.mean(1).var()
    return float(((length - 1) / length + between / within).sqrt())


def effective_size(draws: Tensor) -> float:
    """Effective sample size of chains (chains, draws), by the initial monotone sequence (Geyer, 1992)."""
    chains, length = draws.shape
    spectrum = torch.fft.rfft(draws - draws.mean(1, keepdim=True), n=2 * length)
    covariance = torch.fft.irfft(spectrum.abs().square(), n=2 * length)[:, :length].mean(0) / (length - 1)
    variance = covariance[0] * (length - 1) / length + (draws.mean(1).var() if chains > 1 else 0)
    correlation = 1 - (covariance[0] - covariance) / variance
    correlation[0] = 1
    pairs = correlation[: length // 2 * 2].view(-1, 2).sum(1)
    pairs = pairs[(pairs > 0).cumprod(0).bool()].cummin(0).values
    return chains * length / max(float(2 * pairs.sum() - 1), 1 / math.log(chains * length))


def trend(draws: Tensor) -> float:
    """Student's t, over chains (chains, draws), of the mean of the second half minus that of the first.

    It detects a common drift of the chains even if they mix slowly. NaN for a single chain.

    Args:
        draws: (chains, draws).

    Returns:
        t, with chains - 1 degrees of freedom.
    """
    first, second = draws.tensor_split(2, dim=1)
    changes = second.mean(1) - first.mean(1)
    return float(changes.mean() / changes.std() * len(changes) ** 0.5) if len(changes) > 1 else math.nan
