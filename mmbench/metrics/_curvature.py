"""Curvature computations that several metrics share, done once per subject."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mmbench.errors import ScoreError, UndefinedError
from mmbench.landscape.gauss_newton import image_traces
from mmbench.landscape.hessian import Curvature, rademacher
from mmbench.landscape.lanczos import Lanczos, Rule
from mmbench.landscape.traces import widening
from mmbench.metrics.base import Estimate
from mmbench.metrics.subject import Subject


def gauss_newton_traces(subject: Subject, images: int) -> Tensor:
    """Every image's share of N tr G: (N,), float64, exact."""
    return subject.once(("gauss-newton traces", images), lambda: image_traces(subject.surface(images)))


def operator(subject: Subject, images: int, of: Literal["hessian", "rest"]) -> Curvature:
    """The Hessian or its rest as an operator, with its graph, shared by all metrics of a subject.

    Args:
        subject: what is measured.
        images: training images that the loss is taken on.
        of: `hessian`, or `rest` for R = H - G, the Hessian minus the Gauss-Newton matrix.

    Returns:
        v -> H v or R v.

    Raises:
        UndefinedError: the network has an operation whose second derivative is wrong.
    """
    subject.once("symmetric", lambda: _require_symmetric(subject))
    return subject.once((of, images), lambda: Curvature(subject.surface(images), of))


def _require_symmetric(subject: Subject) -> None:
    """Check u' H v = v' H u on two images: some operations (fused weight_norm) have wrong second derivatives."""
    product = Curvature(subject.surface(2))
    generator = subject.generator("symmetric")
    u, v = (rademacher(product.size, generator, product.surface.point) for _ in range(2))
    hu, hv = product(u).double(), product(v).double()
    if abs(float(u.double() @ hv - v.double() @ hu)) > 1e-2 * float(hu.norm() + hv.norm()):
        raise UndefinedError(
            "autograd's Hessian is not symmetric: an operation of this network has a wrong second derivative"
        )


def lanczos(subject: Subject, images: int, probe: int, steps: int) -> Lanczos:
    """A Lanczos run of the Hessian from random signs, shared by all metrics of a subject.

    Args:
        subject: what is measured.
        images: training images that the loss is taken on.
        probe: number of the run, which seeds its start vector.
        steps: the least number of steps; missing ones are added.

    Returns:
        The run.
    """
    run = subject.once(("lanczos", images, probe), lambda: _start(subject, images, probe))
    for step in range(steps):
        subject.once(("lanczos", images, probe, step), run.step)
    return run


def _start(subject: Subject, images: int, probe: int) -> Lanczos:
    product = operator(subject, images, "hessian")
    return Lanczos(product, rademacher(product.size, subject.generator(f"lanczos {probe}"), product.surface.point))


Scalar = Callable[[np.ndarray, np.ndarray], float]
"""From nodes and weights of the spectral density, the weights summing to 1."""


def spectral(subject: Subject, images: int, probes: int, steps: int, scalar: Scalar) -> Estimate:
    """A scalar of the Hessian's spectrum, by stochastic Lanczos quadrature (Ubaru, Chen and Saad, 2017).

    The scalar is taken of the density averaged over the probes: the mean of a Gauss and an anti-Gauss rule for each.
    The standard error has two parts. That of the probes is the jackknife's, widened by Student's t. That of the number
    of steps is half the difference between the two rules, averaged over the probes without its sign: it is a bias,
    which more probes would not make smaller.

    With no more parameters than products, the Hessian is computed column by column instead, and the scalar is exact.

    Args:
        subject: what is measured.
        images: training images that the loss is taken on.
        probes: random start vectors.
        steps: Hessian-vector products for each.
        scalar: what is computed.

    Returns:
        The estimate; `details` has both parts of the standard error, which is None for a single probe.
    """
    product = operator(subject, images, "hessian")
    if product.size <= probes * steps:
        values = subject.once(("eigenvalues", images), lambda: _eigenvalues(product))
        return Estimate(scalar(values, np.full(len(values), 1 / len(values))), 0.0)
    rules = [_rules(subject, images, probe, steps) for probe in range(probes)]
    value = _pooled(rules, scalar)
    step_error = float(np.mean([abs(scalar(*gauss) - scalar(*anti)) / 2 for gauss, anti in rules]))
    if probes == 1:
        return Estimate(value, None, details={"step_error": step_error})
    without = np.array([_pooled(rules[:i] + rules[i + 1 :], scalar) for i in range(probes)])
    probe_error = widening(probes) * float(np.sqrt((probes - 1) * without.var()))
    return Estimate(
        value, math.hypot(probe_error, step_error), details={"step_error": step_error, "probe_error": probe_error}
    )


def _rules(subject: Subject, images: int, probe: int, steps: int) -> tuple[Rule, Rule]:
    """The two rules of a probe. Only the first run keeps its basis, which `top_eigenvalue` may extend."""
    if probe == 0:
        return lanczos(subject, images, 0, steps).quadratures(steps)

    def run() -> tuple[Rule, Rule]:
        fresh = _start(subject, images, probe)
        for _ in range(steps):
            fresh.step()
        return fresh.quadratures(steps)

    return subject.once(("quadratures", images, probe, steps), run)


def _pooled(rules: Sequence[tuple[Rule, Rule]], scalar: Scalar) -> float:
    """The scalar of the density averaged over all rules."""
    flat = [rule for pair in rules for rule in pair]
    nodes, weights = (np.concatenate(parts) for parts in zip(*flat, strict=True))
    return scalar(nodes, weights / len(flat))


def _eigenvalues(product: Curvature) -> np.ndarray:
    """All of them, by as many products as there are parameters."""
    size, like = product.size, product.surface.point
    columns = [product(row).double().cpu() for row in torch.eye(size, dtype=like.dtype, device=like.device)]
    matrix = torch.stack(columns)
    if not matrix.isfinite().all():
        raise ScoreError("a Hessian-vector product is not a finite number; has the network diverged?")
    return np.asarray(torch.linalg.eigvalsh((matrix + matrix.T) / 2).numpy())
