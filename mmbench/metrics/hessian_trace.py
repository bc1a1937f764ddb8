"""Trace of the Hessian of the training loss, tr H.

H = G + R: the Gauss-Newton matrix G, whose trace is exact and costs C - 1 backward passes, and the rest R, which weighs
the curvature of the logits by the slope of the loss. A network that is piecewise linear in every parameter tensor
(ReLU, batch norm with running statistics) has tr R = 0, so tr H = tr G exactly. For all others (GELU, attention,
LayerNorm) tr R is estimated along random directions, and tr G is added exactly. If the network is smooth, the estimate
uses second differences of forward passes, after a check on a few images; otherwise it uses Hessian-vector products.

Small curvature is thought to mean good generalisation (Hochreiter and Schmidhuber, 1997; Keskar et al., 2017), so the
expected sign is -1. The trace is not invariant under rescaling of layers (Dinh et al., 2017). For a ReLU network it
does not see the kinks between the linear pieces.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mmbench.landscape.logit_graph import piecewise_multilinear
from mmbench.landscape.second_differences import TRIED, Differences, trusted_step
from mmbench.landscape.traces import METHODS, Goal, mean
from mmbench.metrics._curvature import gauss_newton_traces, operator
from mmbench.metrics.base import METRICS, Estimate, Metric
from mmbench.metrics.subject import Subject

BIAS = 0.2
"""Largest error of the differences that is allowed, as a fraction of the requested standard error."""


@METRICS.register("hessian_trace")
class HessianTrace(Metric):
    """tr G + tr R; the standard error is that of the draws for tr R, and 0 where tr R is known to vanish."""

    expected_sign = -1

    tolerance: float = Field(0.05, gt=0)
    """Standard error, relative to the trace, at which no more probes are drawn."""
    probes: int = Field(128, ge=2)
    """Random directions at most; each costs two forward passes with differences, otherwise about two gradients."""
    method: Literal["differences", "hutchinson", "hutchpp", "xtrace"] = "differences"
    """Estimator of tr R: second differences along random signs (with Hutchinson's as the fallback), Hutchinson's
    Hessian-vector products, or Hutch++ and XTrace, which are no better on most networks."""
    images: int = Field(256, ge=1)
    """Training images that the loss is taken on."""

    def measure(self, subject: Subject) -> Estimate:
        """Trace in nats per squared parameter unit; `details` has tr G and the number of directions or products."""
        per_image, surface = gauss_newton_traces(subject, self.images), subject.surface(self.images)
        exact, known = float(per_image.mean()), float(per_image[:TRIED].mean())
        if subject.once(("piecewise multilinear", self.images), lambda: piecewise_multilinear(surface)):
            return Estimate(exact, 0.0, details={"gauss_newton": exact, "products": 0.0})
        goal, generator = Goal(self.tolerance, self.probes, known=exact), subject.generator(self.name)
        step = None
        if self.method == "differences":
            step = trusted_step(surface, subject.generator("differences"), BIAS * self.tolerance, known)
        if step is not None:
            rest, unit = mean(Differences(surface).draws(generator, step), goal), "directions"
        else:
            method = METHODS["hutchinson" if self.method == "differences" else self.method]
            rest, unit = method(operator(subject, self.images, "rest"), surface.point, goal, generator), "products"
        return Estimate(exact + rest.value, rest.stderr, details={"gauss_newton": exact, unit: float(rest.products)})
