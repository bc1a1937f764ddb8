"""Curvature computations that several metrics share, done once per subject."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mmbench.errors import UndefinedError
from mmbench.landscape.gauss_newton import image_traces
from mmbench.landscape.hessian import Curvature, rademacher
from mmbench.landscape.lanczos import Lanczos
from mmbench.metrics.base import Estimate, mean_and_error
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
    product = operator(subject, images, "hessian")

    def begin() -> Lanczos:
        start = rademacher(product.size, subject.generator(f"lanczos {probe}"), product.surface.point)
        return Lanczos(product, start)

    run = subject.once(("lanczos", images, probe), begin)
    for step in range(steps):
        subject.once(("lanczos", images, probe, step), run.step)
    return run


def quadrature(
    subject: Subject, images: int, probes: int, steps: int, scalar: Callable[[np.ndarray, np.ndarray], float]
) -> Estimate:
    """A scalar of the Hessian's spectrum by stochastic Lanczos quadrature; the standard error is over the probes.

    Args:
        subject: what is measured.
        images: training images that the loss is taken on.
        probes: random start vectors.
        steps: Hessian-vector products for each.
        scalar: from Ritz values and their weights, which sum to 1.

    Returns:
        The estimate; `details["step_error"]` is how much the last quarter of the steps changed it, which bounds what
        more steps are likely to change.
    """
    runs = [lanczos(subject, images, probe, steps) for probe in range(probes)]
    values, earlier = (
        torch.tensor([scalar(*run.ritz(k)[:2]) for run in runs], dtype=torch.float64)
        for k in (steps, max(1, 3 * steps // 4))
    )
    return Estimate(*mean_and_error(values), details={"step_error": float((values - earlier).mean().abs())})
