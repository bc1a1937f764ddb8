"""How large a cloud of networks is: what the manifold metrics read off pairwise distances and lines. numpy alone.

A cloud is a start w_0 and points w_1 ... w_K around it. Two points are connected at eps if the barrier on the line
between them lies below eps; a size that counts connections is averaged over a grid of eps, so that no one threshold
decides (with a single eps there is no average).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Literal

import numpy as np

Array = np.ndarray[Any, Any]

Gate = Literal["pair", "component", "none"]
Normaliser = Literal["none", "norm", "sqrt_p", "filter"]


@dataclass(frozen=True)
class Cloud:
    """What was measured on a cloud of K points; all that any of its sizes needs."""

    distances: Array
    """(K + 1, K + 1) Euclidean, float64; row 0 is the start."""
    filtered: Array
    """The same in units of each filter's own norm (Li et al., 2018)."""
    barriers: Array
    """(K, K) symmetric: the barrier between two points, infinite where the loss was."""
    disagreement: Array
    """(K, K) mean total variation between the predicted distributions, in [0, 1]."""
    losses: Array
    """(K,) at the points, on the images of the lines."""
    norm: float
    """||w_0||."""
    parameters: int
    reaches: Array | None = None
    """(K,) how many times the way from the centroid to a point can be gone until the loss has risen; None if nobody
    asked."""

    def __len__(self) -> int:
        """K."""
        return len(self.barriers)

    def only(self, points: Sequence[int]) -> Cloud:
        """The cloud of some of the points, counted from 0. Reaches stay as they are, seen from the old centroid."""
        inner = np.asarray(points)
        outer = np.concatenate([[0], inner + 1])
        return replace(
            self,
            distances=self.distances[np.ix_(outer, outer)],
            filtered=self.filtered[np.ix_(outer, outer)],
            barriers=self.barriers[np.ix_(inner, inner)],
            disagreement=self.disagreement[np.ix_(inner, inner)],
            losses=self.losses[inner],
            reaches=None if self.reaches is None else self.reaches[inner],
        )

    def listed(self) -> dict[str, float | list[float]]:
        """The cloud as numbers and lists of them, for a record; pairs in the order (0, 1), (0, 2), ..."""
        pairs = np.triu_indices(len(self), 1)
        return {
            "displacements": self.distances[0, 1:].tolist(),
            "distances": self.distances[1:, 1:][pairs].tolist(),
            "filtered_displacements": self.filtered[0, 1:].tolist(),
            "filtered_distances": self.filtered[1:, 1:][pairs].tolist(),
            "barriers": self.barriers[pairs].tolist(),
            "disagreements": self.disagreement[pairs].tolist(),
            "point_losses": self.losses.tolist(),
            "norm": self.norm,
            **({} if self.reaches is None else {"reaches": self.reaches.tolist()}),
        }

    @staticmethod
    def of(listed: Mapping[str, Any], parameters: int) -> Cloud:
        """The cloud that `listed` wrote down; what is null there (a record holds no infinity) is infinite."""

        def square(name: str, start: str | None = None) -> Array:
            first = [] if start is None else [listed[start]]
            count = len(listed["point_losses"])
            inner = np.zeros((count, count))
            inner[np.triu_indices(count, 1)] = [math.inf if value is None else value for value in listed[name]]
            inner += inner.T
            return np.block([[np.zeros((1, 1)), np.array(first)], [np.array(first).T, inner]]) if first else inner

        reaches = listed.get("reaches")
        return Cloud(
            square("distances", "displacements"),
            square("filtered_distances", "filtered_displacements"),
            square("barriers"),
            square("disagreements"),
            np.asarray(listed["point_losses"], dtype=float),
            float(listed["norm"]),
            parameters,
            None if reaches is None else np.asarray(reaches, dtype=float),
        )

    def scattered(self) -> Cloud:
        """The random cloud to compare with: points as far from the start, each in a random direction, all connected.

        In many dimensions random directions are orthogonal, so ||w_i - w_j||^2 = r_i^2 + r_j^2 up to 1 / sqrt(P): no
        draw is needed. Its predictions are unknown; their disagreement is left as it is.

        Returns:
            The cloud with those distances, and no barriers.
        """
        return replace(
            self,
            distances=_orthogonal(self.distances),
            filtered=_orthogonal(self.filtered),
            barriers=np.zeros_like(self.barriers),
        )


def _orthogonal(distances: Array) -> Array:
    squares = np.square(distances[0])  # the start's own is 0
    apart = np.sqrt(squares[:, None] + squares)
    np.fill_diagonal(apart, 0)
    return apart


@dataclass(frozen=True)
class Rule:
    """How a size is read: which pairs count, and in which unit."""

    thresholds: tuple[float, ...]
    """The grid of eps."""
    relative: bool = False
    """Whether eps is in units of the points' mean loss instead of nats (or of the error rate)."""
    gate: Gate = "pair"
    normaliser: Normaliser = "norm"


def size_of(name: str, cloud: Cloud, rule: Rule) -> float:
    """The size of that name.

    Args:
        name: one of `Size`.
        cloud: what was measured.
        rule: which pairs count, and in which unit.

    Returns:
        NaN where the cloud has no such size: the reach of a cloud whose rays were not measured.
    """
    return SIZES[name](cloud, rule)


def lengths(cloud: Cloud, normaliser: Normaliser) -> Array:
    """Distances (K + 1, K + 1) in the unit of the normaliser: 1, ||w_0||, sqrt(P), or each filter's own norm."""
    if normaliser == "filter":
        return cloud.filtered
    unit = {"none": 1.0, "norm": cloud.norm, "sqrt_p": math.sqrt(cloud.parameters)}[normaliser]
    return cloud.distances / unit


def connections(cloud: Cloud, rule: Rule) -> list[Array]:
    """For every eps, which points are connected (K, K), each with itself, too."""
    unit = float(np.mean(cloud.losses)) if rule.relative else 1.0
    itself = np.eye(len(cloud), dtype=bool)
    return [(cloud.barriers < eps * unit) | itself for eps in rule.thresholds]


def largest_component(joined: Array) -> Array:
    """Which points (K,) belong to the largest connected component, the first of equals."""
    reached = np.linalg.matrix_power(joined.astype(np.int64), len(joined)) > 0 if len(joined) > 1 else joined
    return np.asarray(reached[int(reached.sum(1).argmax())])


def largest_clique(joined: Array) -> int:
    """The number of points of the largest set that are connected pair by pair; tries all subsets, largest first."""
    count = len(joined)
    for size in range(count, 1, -1):
        if any(joined[np.ix_(chosen, chosen)].all() for chosen in combinations(range(count), size)):
            return size
    return 1


def _distance(cloud: Cloud, rule: Rule) -> float:
    """Mean over the pairs of their distance, where the gate lets a pair count; else it counts as 0."""
    apart, upper = lengths(cloud, rule.normaliser)[1:, 1:], np.triu_indices(len(cloud), 1)
    if rule.gate == "none":
        return float(apart[upper].mean())
    gates = []
    for joined in connections(cloud, rule):
        inside = largest_component(joined)
        gates.append((joined if rule.gate == "pair" else np.outer(inside, inside))[upper])
    return float((apart[upper] * np.mean(gates, 0)).mean())


def _displacement(cloud: Cloud, rule: Rule) -> float:
    """Mean distance of the points from the start: how far training moved at all."""
    return float(lengths(cloud, rule.normaliser)[0, 1:].mean())


def _log_volume(cloud: Cloud, rule: Rule) -> float:
    """Log volume of the simplex of all points, per dimension: log V / (K - 1), with V = sqrt(det G) / (K - 1)!.

    G is the Gram matrix of the edges from the first point (Benton et al., 2021, in a form without cancellation).

    Returns:
        -inf for points in a subspace of fewer dimensions.
    """
    edges = len(cloud) - 1
    gram = _gram(lengths(cloud, rule.normaliser)[1:, 1:])
    sign, log_det = np.linalg.slogdet(gram)
    return (0.5 * float(log_det) - math.lgamma(edges + 1)) / edges if sign > 0 else -math.inf


def _gram(apart: Array) -> Array:
    """Products of the edges from the first point: (d_0i^2 + d_0j^2 - d_ij^2) / 2."""
    squares = np.square(apart)
    return np.asarray((squares[0, 1:, None] + squares[0, 1:] - squares[1:, 1:]) / 2)


def _spectrum(cloud: Cloud, rule: Rule) -> Array:
    """Shares of the variance of the points along their principal axes; all zero where they are one point."""
    squares = np.square(lengths(cloud, rule.normaliser)[1:, 1:])
    centring = np.eye(len(cloud)) - 1 / len(cloud)
    values = np.linalg.eigvalsh(-0.5 * centring @ squares @ centring).clip(min=0)
    return np.asarray(values / values.sum()) if values.sum() > 0 else values


def _participation_ratio(cloud: Cloud, rule: Rule) -> float:
    """(sum of l)^2 / sum of l^2 over the variances l along the principal axes, 1 to K - 1; 0 for one point."""
    shares = _spectrum(cloud, rule)
    return float(1 / np.square(shares).sum()) if shares.any() else 0.0


def _effective_rank(cloud: Cloud, rule: Rule) -> float:
    """exp of the entropy of the shares of variance (Roy and Vetterli, 2007), 1 to K - 1; 0 for one point."""
    shares = _spectrum(cloud, rule)
    positive = shares[shares > 0]
    return float(np.exp(-(positive * np.log(positive)).sum())) if len(positive) else 0.0


def _component(cloud: Cloud, rule: Rule) -> float:
    """Share of the points in the largest component, averaged over eps: the area under size against eps."""
    return float(np.mean([largest_component(joined).mean() for joined in connections(cloud, rule)]))


def _clique(cloud: Cloud, rule: Rule) -> float:
    """Share of the points in the largest clique, averaged over eps."""
    return float(np.mean([largest_clique(joined) / len(cloud) for joined in connections(cloud, rule)]))


def _diameter(cloud: Cloud, rule: Rule) -> float:
    """Diameter in function space: the largest disagreement between two points."""
    return float(cloud.disagreement.max())


def _star_multiplier(cloud: Cloud, rule: Rule) -> float:
    """Mean over the points of how many times the way from the centroid to the point can be gone."""
    return math.nan if cloud.reaches is None else float(cloud.reaches.mean())


def _star_radius(cloud: Cloud, rule: Rule) -> float:
    """Mean over the points of how far one can go from the centroid through the point."""
    if cloud.reaches is None:
        return math.nan
    squares, count = np.square(lengths(cloud, rule.normaliser)[1:, 1:]), len(cloud)
    radii = np.sqrt((squares.mean(1) - squares.sum() / (2 * count**2)).clip(min=0))
    return float((cloud.reaches * radii).mean())


SIZES: dict[str, Callable[[Cloud, Rule], float]] = {
    "distance": _distance,
    "displacement": _displacement,
    "log_volume": _log_volume,
    "component": _component,
    "clique": _clique,
    "participation_ratio": _participation_ratio,
    "effective_rank": _effective_rank,
    "diameter": _diameter,
    "star_radius": _star_radius,
    "star_multiplier": _star_multiplier,
}
Size = Literal[
    "distance", "displacement", "log_volume", "component", "clique", "participation_ratio", "effective_rank",
    "diameter", "star_radius", "star_multiplier",
]  # fmt: skip
LENGTHS = {"distance", "displacement", "log_volume", "star_radius"}
"""Sizes with a unit, which the normaliser is for; filters change the spectrum, too."""
GATED = {"distance", "component", "clique"}
"""Sizes that count connections."""
STARS = {"star_radius", "star_multiplier"}
"""Sizes that need rays."""


def standard_error(size: Callable[[Cloud], float], *clouds: Cloud) -> float | None:
    """Jackknife standard error of a size of the first cloud minus that of the others (Efron, 1979).

    Leaves out the same point of all clouds, one after the other. None for fewer than three points, and where the size
    has no meaning without one of them.

    Args:
        size: of a cloud.
        clouds: of as many points each.

    Returns:
        The error, or None.
    """
    count = len(clouds[0])
    if count < 3:
        return None

    def value(points: list[int]) -> float:
        first, *others = (size(cloud.only(points)) for cloud in clouds)
        return first - sum(others)

    values = np.array([value([i for i in range(count) if i != out]) for out in range(count)])
    if not np.isfinite(values).all():
        return None
    return float(np.sqrt((count - 1) / count * np.square(values - values.mean()).sum()))
