"""Size of the set of linearly connected minima around a network, from SGD branches.

The paper that this project examines (arXiv:2405.15895) gives no formula that could be recovered. This is one declared
member of a family (sampler x connectivity x size x normaliser), not "the" manifold metric:

    sampler       SGD branches from the expanded model, annealed, each with its own order of the images
    connectivity  the barrier b_ij on the line between branches i and j (Entezari et al., 2022) lies below eps
    size          mean over pairs of the distance ||w_i - w_j||_2, counted only for connected pairs,
                  averaged over a grid of eps (so that no one threshold decides)
    normaliser    ||w_0||_2 of the expanded model

Expected sign +1: a large connected manifold is said to mean a large gain.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, Strict

from mmbench.metrics.base import Estimate, Metric
from mmbench.registry import METRICS
from mmbench.training import SGD, AnyTraining

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from mmbench.metrics.subject import Subject

Thresholds = Annotated[tuple[Annotated[float, Field(gt=0)], ...], Strict(False), Field(min_length=1)]


@METRICS.register("manifold")
class Manifold(Metric):
    """Barrier-gated mean pairwise distance of SGD branches, over ||w_0||.

    The standard error is the jackknife's over branches; it needs three.
    """

    expected_sign = 1

    branches: int = Field(3, ge=2)
    """K, the number of branches; K (K - 1) / 2 pairs are joined."""
    fraction: float = Field(0.1, gt=0, le=1)
    """Length of a branch as a fraction of the training; 1 trains each to the end."""
    alphas: int = Field(5, ge=3)
    """Equally spaced points of each line at which the loss is taken, both ends included."""
    thresholds: Thresholds = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
    """The grid of eps, in nats."""
    images: int = Field(256, ge=1)
    """Training images on which barriers are taken; branches train on all."""
    statistics: Literal["recompute", "keep"] = "recompute"
    """Batch norm on the line: the statistics of the images at hand, or interpolated running statistics."""
    training: AnyTraining = SGD()
    """The recipe that branches shorten; in a run it is the run's."""

    def measure(self, subject: Subject) -> Estimate:
        """Dimensionless size; `details` has the ungated distance, the barrier, and the branches' loss.

        Also, as lists and for figures: the mean training loss along the branches (`losses` at `steps`), and the mean
        loss on the lines between their ends (`line`, at equally spaced alpha).
        """
        import torch

        from mmbench.landscape.branches import sgd_branches, shortened
        from mmbench.landscape.paths import barrier, path_losses, place
        from mmbench.landscape.surface import Surface

        model, chosen = subject.network(), subject.surface(self.images).images
        recipe = shortened(self.training, self.fraction)
        norm = float(sum(p.detach().double().square().sum() for p in model.parameters())) ** 0.5
        branches = sgd_branches(model, subject.train, recipe, self.branches, subject.generator(self.name))
        surfaces = [
            Surface(branch.model, chosen, batch_statistics=self.statistics == "recompute") for branch in branches
        ]
        places, ends = [place(surface) for surface in surfaces], [surface.loss() for surface in surfaces]
        walker, inner = surfaces[0], [i / (self.alphas - 1) for i in range(1, self.alphas - 1)]
        distances, barriers, lines = {}, {}, []
        for i, j in combinations(range(self.branches), 2):
            line = [ends[i], *path_losses(walker, places[i], places[j], inner), ends[j]]
            barriers[i, j] = barrier(line)
            lines.append(line)
            distances[i, j] = float(torch.dist(places[i].parameters.double(), places[j].parameters.double())) / norm
        gated = {pair: distances[pair] * self._connected(barriers[pair]) for pair in distances}
        return Estimate(
            _mean(gated),
            _jackknife(gated, self.branches),
            details={
                "distance": _mean(distances),
                "barrier": _mean(barriers),
                "connected": sum(map(self._connected, barriers.values())) / len(barriers),
                "branch_loss": sum(ends) / len(ends),
                "line": [sum(losses) / len(losses) for losses in zip(*lines, strict=True)],
                **_course([branch.losses for branch in branches]),
            },
        )

    def _connected(self, height: float) -> float:
        """The share of the thresholds that a barrier lies below."""
        return sum(height < eps for eps in self.thresholds) / len(self.thresholds)


def _mean(pairs: dict[tuple[int, int], float]) -> float:
    return sum(pairs.values()) / len(pairs)


def _course(losses: Sequence[Tensor], shares: int = 20) -> dict[str, list[float]]:
    """Mean loss of the branches in equal shares of their steps, and the shares' middles: a curve that a record holds.

    Shares beyond the number of steps are left out.
    """
    import torch

    mean = torch.stack([loss.double() for loss in losses]).mean(0)
    parts = mean.tensor_split(min(shares, len(mean)))
    ends = torch.tensor([len(part) for part in parts], dtype=torch.double).cumsum(0)
    middles = [float(end) - len(part) / 2 for end, part in zip(ends, parts, strict=True)]
    return {"losses": [float(part.mean()) for part in parts], "steps": middles}


def _jackknife(pairs: dict[tuple[int, int], float], count: int) -> float | None:
    """Standard error of the mean over pairs, leaving out one branch at a time (Efron, 1979)."""
    if count < 3:
        return None
    left_out = [_mean({pair: x for pair, x in pairs.items() if branch not in pair}) for branch in range(count)]
    centre = sum(left_out) / count
    return ((count - 1) / count * sum((x - centre) ** 2 for x in left_out)) ** 0.5
