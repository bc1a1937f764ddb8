"""How far short trainings of the expanded model end from each other, beyond what the expansion alone would make of it.

K branches leave the expanded model, each with its own order of the images (Frankle et al., 2020). K branches of the
base model, trained in the same way and then put through the same expansion without training, give the symmetry null:
widening alone turns one minimum into many (after Simsek et al., 2021). With the distances d_ij between expanded
branches and n_ij between expanded branches of the base,

    score = mean over the pairs i < j of d_ij - n_ij.

Distances are in units of each filter's norm (Li et al., 2018) or Euclidean. Expected sign +1: a large set of minima is
said to mean a large gain. In an earlier study of ours it reached +0.22 and +0.37 on the two halves of 12 cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from mmbench.data.base import Split
from mmbench.landscape.branches import sgd_branches, shortened
from mmbench.landscape.distances import distances, pair_mean
from mmbench.landscape.heights import barrier_between
from mmbench.metrics.base import METRICS, Estimate, Metric
from mmbench.metrics.subject import Subject
from mmbench.training.recipes import SGD, AnyTraining


@METRICS.register("branch_distance")
class BranchDistance(Metric):
    """Mean distance of trained copies; the standard error is over the branches (three at least)."""

    expected_sign = 1
    compares = True

    branches: int = Field(4, ge=2)
    """K, the trained copies; three give a standard error, four a closer one."""
    fraction: float = Field(0.025, gt=0, le=1)
    """Length of a branch as a fraction of the training; 1 trains each to the end."""
    unit: Literal["filter", "none"] = "filter"
    """Lengths in units of each filter's norm, or Euclidean."""
    minus_null: bool = True
    """Whether the symmetry null is subtracted; it needs the base model and the expansion."""
    images: int = Field(64, ge=1)
    """Training images for `details.barrier`."""
    training: AnyTraining = SGD()
    """The recipe that a branch shortens; in a run it is the run's."""

    def reference(self, base: Subject) -> Mapping[str, Tensor]:
        """The states of the base model's branches; tensor NAME of branch i is `i.NAME`."""
        return {
            f"{i}.{name}": tensor.detach().clone(memory_format=torch.contiguous_format)
            for i, model in enumerate(self._branches(base))
            for name, tensor in model.state_dict().items()
        }

    def reference_options(self) -> dict[str, Any]:
        """How the branches are trained."""
        options = self.describe()
        return {name: options[name] for name in ("name", "branches", "fraction", "training")}

    def measure(self, subject: Subject) -> Estimate:
        """The distance, without unit or in units of the weights.

        Returns:
            The estimate. `details` hold both distances and the mean barrier between two branches, in nats, with
            batch norms on the statistics of the images.
        """
        models = subject.once(("branches", repr(self.reference_options())), lambda: self._branches(subject))
        apart = distances(models, by_filter=self.unit == "filter")
        details = {"distance": pair_mean(apart)[0], "barrier": _barrier(models, subject.images(self.images))}
        if self.minus_null:
            null = distances(self._null(subject), by_filter=self.unit == "filter")
            details["null"] = pair_mean(null)[0]
            apart = apart - null
        return Estimate(*pair_mean(apart), details=details)

    def _branches(self, subject: Subject) -> list[nn.Module]:
        recipe = shortened(self.training.in_steps(len(subject.train)), self.fraction)
        generator = subject.generator("branch_distance")
        subject.require_logits()
        found = sgd_branches(subject.network(), subject.train, recipe, self.branches, generator)
        return [branch.model for branch in found]

    def _null(self, subject: Subject) -> list[nn.Module]:
        """The base model's branches, put through the expansion with the same draws."""
        states, pushed = subject.reference(self), []
        for i in range(self.branches):
            small = subject.base
            small.load_state_dict({name: states[f"{i}.{name}"] for name in small.state_dict()})
            pushed.append(subject.expanded(small))
        return pushed


def _barrier(models: Sequence[nn.Module], images: Split) -> float:
    """Mean over the pairs of the barrier on the line; infinite where a loss is not finite."""
    heights = [barrier_between(a, b, images) for a, b in combinations(models, 2)]
    return sum(heights) / len(heights)
