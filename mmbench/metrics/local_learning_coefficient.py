"""Local learning coefficient (Lau et al., 2025): the complexity of a minimum in singular learning theory.

    lambda = n beta (E[L_n(w)] - L_n(w*)),   beta = 1 / log n,

where L_n is the loss on all n training images used, not on a batch. The expectation is over the density proportional to
exp(-n beta L_n(w) - gamma ||w - w*||^2 / 2), sampled by Langevin dynamics that start at the network w*. A regular model
of d parameters has d / 2 (slightly less because of gamma), a degenerate one less. Each rise of the loss is relative to
the loss of the same images at w*, so batches add little noise. Complex solutions are thought to generalise worse, so
the expected sign is -1. Away from a minimum the estimate may be negative.
"""

from __future__ import annotations

import math

import torch
from pydantic import Field
from scipy.special import stdtrit
from torch import Tensor

from mmbench.errors import ScoreError
from mmbench.landscape.langevin import effective_size, langevin_chain, split_r_hat, trend
from mmbench.metrics.base import METRICS, Estimate, Metric, mean_and_error
from mmbench.metrics.subject import Subject

DRIFTS = 0.01
"""Probability that stationary chains are reported as not settled."""


@METRICS.register("local_learning_coefficient")
class LocalLearningCoefficient(Metric):
    """Estimate of lambda from SGLD chains in evaluation mode; the standard error is over the chains."""

    expected_sign = -1

    chains: int = Field(4, ge=1)
    """Independent chains."""
    burn_in: int = Field(100, ge=1)
    """First steps of a chain, which are discarded."""
    steps: int = Field(100, ge=4)
    """Steps of a chain that count; each costs a gradient on a batch."""
    step_size: float = Field(1e-4, gt=0)
    """epsilon, the variance of a step's noise."""
    localisation: float = Field(300.0, ge=0)
    """gamma, the strength of the pull towards the network."""
    batch_size: int = Field(64, ge=1)
    """Images per step; all `images` if there are fewer."""
    images: int = Field(1024, ge=1)
    """n, the training images that make up the loss."""

    def measure(self, subject: Subject) -> Estimate:
        """lambda, dimensionless; `details` has the diagnostics of the chains."""
        surface, generator = subject.surface(self.images), subject.generator(self.name)
        count = max(2, len(surface.images))  # log n must not be 0
        scale, traces, accepted = count / math.log(count), [], []
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
            if len(chain.rises) < self.burn_in + self.steps or not chain.rises.isfinite().all():
                raise ScoreError(
                    f"a Langevin chain diverged: at step {len(chain.rises)} its loss is not a finite number; "
                    "lower metric.step_size"
                )
            traces.append(scale * chain.rises[self.burn_in :])
            accepted.append(chain.acceptance[self.burn_in - 1 :])
        trace = torch.stack(traces)
        value, stderr = mean_and_error(trace.mean(1))
        return Estimate(value, stderr, details=_diagnosis(trace) | {"acceptance": float(torch.cat(accepted).mean())})


def _diagnosis(trace: Tensor) -> dict[str, float]:
    """Diagnostics of chains (chains, steps) of lambda; fewer for a single chain, or chains that do not move."""
    numbers = {"r_hat": split_r_hat(trace), "effective_size": effective_size(trace), "trend": trend(trace)}
    if len(trace) > 1:
        numbers["settled"] = float(abs(numbers["trend"]) < stdtrit(len(trace) - 1, 1 - DRIFTS / 2))
    numbers["negative"] = float(trace.mean() < 0)
    return {name: number for name, number in numbers.items() if math.isfinite(number)}
