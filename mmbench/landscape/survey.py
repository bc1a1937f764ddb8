"""What a cloud of networks looks like: distances between its points, losses on the lines between, rays out of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mmbench.data.base import Split
from mmbench.landscape.folding import fold_batch_norms
from mmbench.landscape.paths import Place, barrier, move, place
from mmbench.landscape.sizes import Cloud
from mmbench.landscape.surface import Surface
from mmbench.models.copies import copied

Statistics = Literal["recompute", "keep", "fold"]
PIECE = 2**18
"""Parameters whose differences are taken at a time: in double precision they stay in the cache."""
FARTHEST, HALVINGS = 64.0, 3
"""Where a ray is given up, as a multiple of its first step; and halvings of the bracket, on a logarithmic scale."""


class Survey(NamedTuple):
    """A cloud, and what was seen on its lines."""

    cloud: Cloud
    error_barriers: np.ndarray[Any, Any]
    """(K, K) as the cloud's barriers, of the error rate."""
    line: list[float]
    """Mean over the pairs of the loss at the equally spaced alphas."""


class Look(NamedTuple):
    """The network at one point of weight space."""

    loss: float
    error: float
    probabilities: Tensor
    """(N, classes), float64."""


def survey(
    start: nn.Module,
    models: Sequence[nn.Module],
    images: Split,
    alphas: int = 5,
    refine: int = 0,
    statistics: Statistics = "recompute",
    rise: float | None = None,
) -> Survey:
    """Measure the cloud of `models` (K) around `start`.

    Args:
        start: w_0.
        models: the points, all of one architecture.
        images: on which losses are taken.
        alphas: equally spaced points of each line, both ends included; 3 is the middle alone.
        refine: further points, each in the middle of the wider gap beside the highest point so far.
        statistics: batch norms on the line use the statistics of the images at hand (`recompute`, all images in one
            pass), interpolated running ones (`keep`), or are part of the layers before them, whose weights are then
            interpolated (`fold`). Distances are always between the weights as they are.
        rise: if given, the loss (nats) above that of the centroid at which a ray ends.

    Returns:
        The cloud and its lines.
    """
    points = [place(model) for model in (start, *models)]
    seen = [_folded(model, images) for model in models] if statistics == "fold" else models
    places = [place(model) for model in seen] if statistics == "fold" else points[1:]
    walker = Surface(copied(seen[0]).requires_grad_(), images, batch_statistics=statistics == "recompute")
    count, ends = len(models), [_look_at(walker, at) for at in places]
    heights, error_heights = np.zeros((count, count)), np.zeros((count, count))
    disagreement, lines = np.zeros((count, count)), []
    for i, j in combinations(range(count), 2):
        at, losses, errors = _walk(walker, (places[i], places[j]), (ends[i], ends[j]), alphas, refine)
        heights[i, j] = heights[j, i] = barrier(losses, at)
        error_heights[i, j] = error_heights[j, i] = barrier(errors, at)
        apart = (ends[i].probabilities - ends[j].probabilities).abs().sum(1).mean() / 2
        disagreement[i, j] = disagreement[j, i] = float(apart)
        lines.append([loss for alpha, loss in zip(at, losses, strict=True) if _on_grid(alpha, alphas)])
    vectors = [point.parameters for point in points]
    distances, filtered = _distances(vectors, _filter_units([start, *models]))
    cloud = Cloud(
        distances,
        filtered,
        heights,
        disagreement,
        np.array([end.loss for end in ends]),
        float(torch.linalg.vector_norm(vectors[0], dtype=torch.float64)),
        vectors[0].numel(),
        None if rise is None else np.array(_reaches(walker, places, rise)),
    )
    return Survey(cloud, error_heights, [sum(losses) / len(losses) for losses in zip(*lines, strict=True)])


def look(surface: Surface) -> Look:
    """Loss, error rate and predictions at the surface's point."""
    labels = surface.images.labels
    logits = surface.logits().double()
    return Look(
        float(cross_entropy(logits, labels)), float((logits.argmax(1) != labels).double().mean()), logits.softmax(1)
    )


def _look_at(walker: Surface, at: Place) -> Look:
    move(walker, at, at, 0.0)
    return look(walker)


def _walk(
    walker: Surface, between: tuple[Place, Place], ends: tuple[Look, Look], alphas: int, refine: int
) -> tuple[list[float], list[float], list[float]]:
    """The alphas at which a line was looked at, in order, with the losses and the error rates there."""
    first, last = ends
    seen = {0.0: (first.loss, first.error), 1.0: (last.loss, last.error)}

    def visit(alpha: float) -> None:
        move(walker, *between, alpha)
        there = look(walker)
        seen[alpha] = there.loss, there.error

    for i in range(1, alphas - 1):
        visit(i / (alphas - 1))
    for _ in range(refine):
        at = sorted(seen)
        excess = [seen[a][0] - ((1 - a) * first.loss + a * last.loss) for a in at]
        top = max(range(1, len(at) - 1), key=lambda i: excess[i])
        left, right = at[top] - at[top - 1], at[top + 1] - at[top]
        visit(at[top] - left / 2 if left >= right else at[top] + right / 2)
    at = sorted(seen)
    return at, [seen[a][0] for a in at], [seen[a][1] for a in at]


def _on_grid(alpha: float, alphas: int) -> bool:
    return any(alpha == i / (alphas - 1) for i in range(alphas))


def _reaches(walker: Surface, places: Sequence[Place], rise: float) -> list[float]:
    """How many times the way from the centroid to each point can be gone until the loss is `rise` above its own.

    A crossing between neighbouring powers of two, then between them by halving; FARTHEST where there is none.

    Returns:
        A multiple for each point.
    """
    centre = type(places[0])(*(torch.stack(parts).mean(0) for parts in zip(*places, strict=True)))
    move(walker, centre, centre, 0.0)
    limit = walker.loss() + rise

    def above(to: Place, multiple: float) -> bool:
        move(walker, centre, to, multiple)
        loss = walker.loss()
        return not math.isfinite(loss) or loss > limit

    reaches = []
    for to in places:
        low, high = 1.0, 2.0
        if above(to, low):
            while low > 1 / FARTHEST and above(to, low / 2):
                low /= 2
            low, high = low / 2, low
        else:
            while high <= FARTHEST and not above(to, high):
                low, high = high, 2 * high
        for _ in range(HALVINGS if high <= FARTHEST else 0):
            middle = math.sqrt(low * high)
            low, high = (low, middle) if above(to, middle) else (middle, high)
        reaches.append(FARTHEST if high > FARTHEST else math.sqrt(low * high))
    return reaches


def _folded(model: nn.Module, images: Split) -> nn.Module:
    twin = copied(model).eval()
    fold_batch_norms(twin, images.images[:8])
    return twin


def _filter_units(models: Sequence[nn.Module]) -> Tensor:
    """(P,) weights u such that sum of u d^2 is the mean over filters of ||d_f||^2 / ||w_f||^2.

    A filter is a row of a weight; biases and norms are left out (Li et al., 2018). ||w_f||^2 is the mean over the
    networks, since it may be zero in one of them; a filter that is zero in all does not count.

    Returns:
        u, float64, on the CPU.
    """
    units, filters = [], 0
    for tensors in zip(*(model.parameters() for model in models), strict=True):
        shape = tensors[0].shape
        if len(shape) < 2:
            units.append(torch.zeros(shape.numel(), dtype=torch.float64))
            continue
        norms = sum(t.detach().double().flatten(1).square().sum(1) for t in tensors) / len(models)
        assert isinstance(norms, torch.Tensor)
        filters += int((norms > 0).sum())
        inverse = torch.where(norms > 0, 1 / norms, 0.0).cpu()
        units.append(inverse.repeat_interleave(shape[1:].numel()))
    return torch.cat(units) / max(filters, 1)


def _distances(points: Sequence[Tensor], units: Tensor) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Euclidean and filter-wise distances (K, K) between vectors (P,), summed in float64."""
    count = len(points)
    squares = np.zeros((2, count, count))
    for pieces, unit in _pieces(points, units):
        for i, j in combinations(range(count), 2):
            square = (pieces[i] - pieces[j]).square_()
            squares[0, i, j] += float(square.sum())
            squares[1, i, j] += float(square @ unit)
    roots = np.sqrt(squares + squares.transpose(0, 2, 1))
    return roots[0], roots[1]


def _pieces(points: Sequence[Tensor], units: Tensor) -> Iterator[tuple[list[Tensor], Tensor]]:
    for first in range(0, len(units), PIECE):
        part = slice(first, first + PIECE)
        yield [point[part].double() for point in points], units[part].to(points[0].device)
