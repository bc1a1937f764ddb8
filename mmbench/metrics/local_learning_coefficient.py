"""Local learning coefficient (Lau et al., 2025): the complexity of a minimum in singular learning theory.

    lambda = n beta (E[L_n(w)] - L_n(w*)),   beta = 1 / log n,

where L_n is the loss on all n training images used, not on a batch. The expectation is over the density proportional to
exp(-n beta L_n(w) - gamma ||w - w*||^2 / 2), sampled by Langevin dynamics that start at the network w*. A regular model
of d parameters has d / 2 in the limit of many images, a degenerate one less; at finite n a direction of curvature k
counts 1/2 k n beta / (k n beta + gamma), so that gamma must be small: the default one counts curvatures above 0.02
nats. Each rise of the loss is relative to the loss of the same images at w*. Complex solutions are thought to
generalise worse, so the expected sign is -1. Away from a minimum the estimate may be negative.

A chain that has not spread yet looks steady. So `details.settled` asks for more than no common drift of the chains and
a small R-hat. By integration by parts, E[(w - w*)' grad U(w)] = P for every density exp(-U); `virial` is the ratio.
The momentum along the gradient has mean square 1: `heat`, larger where the step is too long or a batch too small.
"""

from __future__ import annotations

import math

import torch
from pydantic import Field
from scipy.special import stdtrit
from torch import Tensor

from mmbench.errors import ScoreError
from mmbench.landscape.langevin import effective_size, langevin_chain, split_r_hat, trend
from mmbench.landscape.traces import widening
from mmbench.metrics.base import METRICS, Estimate, Metric, mean_and_error
from mmbench.metrics.subject import Subject

DRIFTS = 0.01
"""Probability that stationary chains are reported as drifting."""
VIRIAL, HEAT, MIXED = 0.1, 0.5, 1.2
"""Of chains that are reported as settled: how far virial and heat may be from 1, beyond two standard errors, and the
largest R-hat."""


@METRICS.register("local_learning_coefficient")
class LocalLearningCoefficient(Metric):
    """Estimate of lambda from Langevin chains in evaluation mode; the standard error is over the chains."""

    expected_sign = -1

    chains: int = Field(4, ge=1)
    """Independent chains."""
    burn_in: int = Field(100, ge=1)
    """First steps of a chain, which are discarded; 3 / sqrt(step_size gamma) let a flat direction spread."""
    steps: int = Field(150, ge=4)
    """Steps of a chain that count; each costs a gradient on a batch."""
    step_size: float = Field(1e-3, gt=0)
    """Squared time step; stable while it is below 4 over the largest curvature of n beta L_n."""
    localisation: float = Field(1.0, ge=0)
    """gamma, the strength of the pull towards the network."""
    batch_size: int = Field(256, ge=1)
    """Images per step; all `images` if there are fewer. Batches heat the sharp directions: see `details.heat`."""
    images: int = Field(256, ge=2)
    """n, the training images that make up the loss."""

    def measure(self, subject: Subject) -> Estimate:
        """lambda, dimensionless; `details` has the diagnostics of the chains."""
        surface, generator = subject.surface(self.images), subject.generator(self.name)
        count = max(2, len(surface.images))  # log n must not be 0
        scale, chains = count / math.log(count), []
        for _ in range(self.chains):
            chain = langevin_chain(
                surface,
                generator,
                steps=self.burn_in + self.steps,
                step_size=self.step_size,
                temperature=1 / scale,
                localisation=self.localisation,
                batch_size=self.batch_size,
            )
            if len(chain.rises) < self.burn_in + self.steps:
                raise ScoreError(
                    f"a Langevin chain diverged: at step {len(chain.rises)} its loss is not a finite number; "
                    "lower metric.step_size"
                )
            chains.append(chain)
        trace, virials, heats = (torch.stack(parts)[:, self.burn_in :] for parts in zip(*chains, strict=True))
        value, stderr = mean_and_error(scale * trace.mean(1))
        stderr = None if stderr is None else stderr * widening(self.chains)
        return Estimate(value, stderr, details=_diagnosis(scale * trace, virials, heats))


def _diagnosis(trace: Tensor, virials: Tensor, heats: Tensor) -> dict[str, float]:
    """Diagnostics of chains (chains, steps) of lambda; fewer for a single chain, or chains that do not move."""
    numbers = {"r_hat": split_r_hat(trace), "effective_size": effective_size(trace), "trend": trend(trace)}
    numbers |= {"virial": float(virials.mean()), "heat": float(heats.mean())}
    if len(trace) > 1:
        steady = abs(numbers["trend"]) < stdtrit(len(trace) - 1, 1 - DRIFTS / 2)
        spread = numbers["r_hat"] < MIXED and _near_one(virials, VIRIAL) and _near_one(heats, HEAT)
        numbers["settled"] = float(steady and spread)
    numbers["negative"] = float(trace.mean() < 0)
    return {name: number for name, number in numbers.items() if math.isfinite(number)}


def _near_one(values: Tensor, tolerance: float) -> bool:
    """Whether the mean of chains (chains, steps) is 1, up to the tolerance and two standard errors."""
    mean, error = values.mean(), values.mean(1).std() / len(values) ** 0.5
    return bool(abs(mean - 1) <= tolerance + 2 * error)
