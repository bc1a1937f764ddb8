"""Stochastic gradient Langevin dynamics around a network (Welling and Teh, 2011), with convergence diagnostics."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mmbench.data.base import Split
from mmbench.landscape.perturbations import normal
from mmbench.landscape.surface import Surface


class Chain(NamedTuple):
    """One chain, step by step, starting at w_0."""

    rises: Tensor
    """L_B(w_t) - L_B(w_0) on the step's batch B (steps,), float64: unbiased for L(w_t) - L(w_0), with little noise."""
    acceptance: Tensor
    """Probability that a Metropolis test accepts the step to w_t (steps - 1,); exact if a batch is all images."""


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
    """A chain from the surface's point w_0; its density tends to exp(-L(w) / temperature - gamma ||w - w_0||^2 / 2).

        w <- w - (step_size / 2) [grad L_B(w) / temperature + gamma (w - w_0)] + sqrt(step_size) N(0, I)

    The density holds up to an error of the order of the step size and the noise of the batches. Images come in shuffled
    epochs; those that do not fill a batch are left out. A step costs one gradient on a batch.

    Args:
        surface: the loss L; its point is restored afterwards.
        generator: of the noise and the order of the images, on the CPU.
        steps: of the chain.
        step_size: variance of the noise of a step, in squared parameter units.
        temperature: in nats.
        localisation: gamma, in inverse squared parameter units.
        batch_size: images of a batch B; all of them if there are fewer.

    Returns:
        The chain; it is shorter than `steps` if it diverged.
    """
    start, anchor, images = surface.point.clone(), surface.image_losses(), surface.images
    size = min(batch_size, len(images))
    per_epoch = len(images) // size
    states: list[_State] = []
    rises, acceptance = [], []
    for step in range(steps):
        if step % per_epoch == 0:
            order = torch.randperm(len(images), generator=generator).to(images.labels.device)
        batch = order[step % per_epoch * size :][:size]
        loss, gradient = surface.on(Split(images.images[batch], images.labels[batch])).loss_and_gradient()
        rises.append(loss - float(anchor[batch].mean()))
        away = surface.point - start
        energy = rises[-1] / temperature + localisation / 2 * float(torch.dot(away, away))
        drift = gradient.div_(temperature).add_(away, alpha=localisation)
        if not math.isfinite(energy):
            break
        state = _State(energy, drift, normal(start, generator))
        if states:
            acceptance.append(_acceptance(states.pop(), state, step_size))
        states.append(state)
        surface.point.add_(drift, alpha=-step_size / 2).add_(state.noise, alpha=step_size**0.5)
    surface.point.copy_(start)
    return Chain(torch.tensor(rises, dtype=torch.float64), torch.tensor(acceptance, dtype=torch.float64))


class _State(NamedTuple):
    energy: float
    drift: Tensor
    noise: Tensor
    """Noise of the next step."""


def _acceptance(old: _State, new: _State, step_size: float) -> float:
    """min(1, exp(U(w) - U(w')) q(w | w') / q(w' | w)) of the step from w to w' (Metropolis-adjusted Langevin)."""
    both = old.drift + new.drift
    forward_over_back = step_size**0.5 / 2 * torch.dot(old.noise, both) - step_size / 8 * torch.dot(both, both)
    return math.exp(min(0.0, old.energy - new.energy + float(forward_over_back)))


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
