"""Barrier height: how high the loss rises on the line to the same network with its channels in another order.

Every channel group is permuted at random, which leaves the function as it is; with such a permutation P,

    score = mean over P of sup over alpha of L((1 - alpha) w + alpha P w) - L(w)   (Entezari et al., 2022).

This is the quantity whose quantiles `manifold` counts, without its threshold, layer by layer walks and base model: the
plain rival. (A line between the base model and its expansion has no meaning: it needs an embedding of the base, and
most expansions ARE one, up to symmetries.) A low barrier means well connected minima, so the expected sign is -1. It
falls with width alone (Zhan, Li and Wu, 2025), and swaps of clones or of dead units have none. Batch norms use the
statistics of the images on the line (Jordan et al., 2023), which is also done at its ends.
"""

from __future__ import annotations

import torch
from pydantic import Field

from mmbench.errors import ScoreError
from mmbench.landscape.heights import barrier_between
from mmbench.landscape.matching import permuted
from mmbench.landscape.permutations import table_of
from mmbench.landscape.traces import widening
from mmbench.metrics.base import METRICS, Estimate, Metric, mean_and_error
from mmbench.metrics.subject import Subject


@METRICS.register("barrier_height")
class BarrierHeight(Metric):
    """Mean barrier to permutations of the network; the standard error is over the permutations."""

    expected_sign = -1

    nodes: int = Field(8, ge=1)
    """Permutations; two or more give a standard error."""
    images: int = Field(256, ge=1)
    """Training images that the loss is taken on."""

    def measure(self, subject: Subject) -> Estimate:
        """The barrier in nats; `details` has the highest."""
        surface, model, heights = subject.surface(self.images), subject.network(), []
        for module in model.modules():  # of the caller; a network of a known family has none
            module._forward_hooks.clear()
            module._forward_pre_hooks.clear()
        generator, groups = subject.generator(self.name), table_of(model).groups
        for _ in range(self.nodes):
            orders = {name: torch.randperm(group.size, generator=generator) for name, group in groups.items()}
            heights.append(barrier_between(model, permuted(model, orders), surface.images))
        drawn = torch.tensor(heights, dtype=torch.float64)
        if not drawn.isfinite().all():
            raise ScoreError("the loss on the line between two permutations is not a finite number")
        value, error = mean_and_error(drawn)
        return Estimate(
            value, None if error is None else error * widening(self.nodes), details={"highest": float(drawn.max())}
        )
