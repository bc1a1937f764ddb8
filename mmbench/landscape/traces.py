"""Estimators of the trace of an operator given by its products; each continues until its error is small.

Each is unbiased at a fixed number of products. Stopping once the estimated error is small favours estimates of the
error that are too small, which adds a bias of less than a third of the stated standard error.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mmbench.landscape.hessian import rademacher

FIRST = 5
"""Draws before the error is computed: fewer do not show their spread well enough."""


class Operator(Protocol):
    """A symmetric operator."""

    def __call__(self, vector: Tensor) -> Tensor:
        """The product with a vector (P,)."""


@dataclass(frozen=True)
class Goal:
    """When to stop: standard error below `tolerance` |known + estimate|, or `products` used up."""

    tolerance: float
    products: int
    known: float = 0.0
    """The part of the quantity that is known exactly; only the rest is estimated."""


@dataclass(frozen=True)
class Trace:
    """An estimate, its standard error, and the products that it took."""

    value: float
    stderr: float
    products: int


def hutchinson(product: Operator, like: Tensor, goal: Goal, generator: torch.Generator) -> Trace:
    """tr A = E[v' A v] for random signs v (Hutchinson, 1990).

    Args:
        product: v -> A v, (P,).
        like: a vector (P,) of A's dtype and device.
        goal: when to stop.
        generator: of the signs, on the CPU.

    Returns:
        The estimate.
    """

    def forms() -> Iterator[float]:
        while True:
            v = rademacher(len(like), generator, like)
            yield _dot(v, product(v))

    return mean(forms(), goal)


def mean(draws: Iterator[float], goal: Goal) -> Trace:
    """The mean of independent draws, each of which costs one product."""
    values: list[float] = []

    def estimate(count: int) -> tuple[float, float]:
        values.extend(itertools.islice(draws, count - len(values)))
        return _mean(torch.tensor(values, dtype=torch.float64))

    return _until(goal, estimate, cost=1, first=FIRST)


def hutchpp(product: Operator, like: Tensor, goal: Goal, generator: torch.Generator) -> Trace:
    """tr A = tr(Q' A Q) + tr((I - QQ') A (I - QQ')), Q a basis of A S for random signs S (Meyer et al., 2021).

    The first part is exact and takes two thirds of the products of `goal`; the second uses Hutchinson's estimator.

    Args:
        product: v -> A v, (P,).
        like: a vector (P,) of A's dtype and device.
        goal: when to stop.
        generator: of the signs, on the CPU.

    Returns:
        The estimate.
    """
    third = max(1, min(goal.products // 3, len(like)))
    q = torch.empty(len(like), third, dtype=like.dtype, device=like.device)
    for i in range(third):
        q[:, i] = product(rademacher(len(like), generator, like))
    q = torch.linalg.qr(q).Q
    exact = sum(_dot(column, product(column)) for column in q.T)

    def projected(vector: Tensor) -> Tensor:
        vector = vector - q @ (q.T @ vector)
        image = product(vector)
        return image - q @ (q.T @ image)

    left = Goal(goal.tolerance, goal.products - 2 * third, goal.known + exact)
    rest = hutchinson(projected, like, left, generator)
    return Trace(exact + rest.value, rest.stderr, rest.products + 2 * third)


def xtrace(product: Operator, like: Tensor, goal: Goal, generator: torch.Generator) -> Trace:
    """Hutch++ averaged over leaving out each probe (Epperly, Tropp and Webber, 2024); the spread gives the error.

    With Y = A O for vectors O uniform on a sphere, Y = QR and W = Q' O, leaving out probe i gives the basis
    Q (I - s_i s_i'), where s_i is the normalised column i of R^-T. Its estimate is
    tr(Q' A Q) - s_i' Q' A Q s_i + r_i' A r_i, with r_i = o_i - Q u_i and u_i = (I - s_i s_i') w_i: the part of the
    probe outside the basis, rescaled to its expected length sqrt(P - k + 1).

    Args:
        product: v -> A v, (P,).
        like: a vector (P,) of A's dtype and device.
        goal: when to stop.
        generator: of the probes, on the CPU.

    Returns:
        The estimate.
    """
    probes, images, basis, basis_images = (like.new_empty(len(like), 0) for _ in range(4))

    def estimate(count: int) -> tuple[float, float]:
        nonlocal probes, images, basis, basis_images
        count = min(count, len(like))
        drawn = torch.randn(count - probes.shape[1], len(like), generator=generator, dtype=torch.float64)
        fresh = list((drawn * (len(like) ** 0.5 / drawn.norm(dim=1, keepdim=True))).to(like))
        probes = torch.stack([*probes.T, *fresh], 1)
        images = torch.stack([*images.T, *map(product, fresh)], 1)
        q, r = torch.linalg.qr(images)
        signs = (q[:, : basis.shape[1]] * basis).sum(0).sign()  # earlier columns recur, up to sign
        basis_images = torch.stack([*(basis_images * signs).T, *map(product, q.T[basis.shape[1] :])], 1)
        basis = q
        small = q.T @ basis_images
        pivots = r.diagonal().abs()
        if pivots.min() <= torch.finfo(r.dtype).eps * len(like) * pivots.max():
            return float(small.trace()), 0.0  # the rank of A is below the number of probes, so Q spans its range
        s = torch.linalg.inv(r).T
        s = s / torch.linalg.vector_norm(s, dim=0)
        w = q.T @ probes
        u = w - s * (s * w).sum(0)
        unexplained = probes - q @ u
        rest = (
            (unexplained * (images - basis_images @ u)).sum(0) / unexplained.square().sum(0) * (len(like) - count + 1)
        )
        return _mean((small.trace() - (s * (small @ s)).sum(0) + rest).double())

    return _until(goal, estimate, cost=2, first=2 * FIRST)  # more first draws, since they are not independent


METHODS: dict[str, Callable[[Operator, Tensor, Goal, torch.Generator], Trace]] = {
    "hutchinson": hutchinson,
    "hutchpp": hutchpp,
    "xtrace": xtrace,
}


def _until(goal: Goal, estimate: Callable[[int], tuple[float, float]], cost: int, first: int) -> Trace:
    """Draw until the goal is met, with few checks: frequent checks favour moments when the error looks too small."""
    most = max(2, goal.products // cost)
    count = min(first, most)
    while True:
        value, stderr = estimate(count)
        target = goal.tolerance * abs(goal.known + value)
        if stderr <= target or count >= most or not math.isfinite(value):
            return Trace(value, stderr, count * cost)
        needed = count * (stderr / target) ** 2 if target else math.inf
        count = int(min(max(count + 1, math.ceil(min(needed, 2 * count))), most))


def widening(draws: int) -> float:
    """Student's t over the normal quantile: with it, an interval of two standard errors also holds for few draws.

    Args:
        draws: independent ones, two at least.

    Returns:
        6.5 for two draws, 1.6 for four, 1 for many.
    """
    from scipy.special import ndtri, stdtrit

    return float(stdtrit(draws - 1, 0.975) / ndtri(0.975))


def _mean(draws: Tensor) -> tuple[float, float]:
    """Mean and widened standard error."""
    return float(draws.mean()), widening(len(draws)) * float(draws.std() / len(draws) ** 0.5)


def _dot(a: Tensor, b: Tensor) -> float:
    return float(torch.dot(a.double(), b.double()))
