"""Trace of the Hessian of the training loss, tr H.

H = G + R: the Gauss-Newton matrix G, whose trace is exact at C - 1 output-space backward passes, and the rest R, which
weighs the curvature of the logits by the slope of the loss. A network that is piecewise linear in every parameter
tensor (ReLU, batch norm with its running statistics) has tr R = 0, so tr H = tr G exactly. For all others (GELU,
attention, LayerNorm) tr R is estimated by random probes, with tr G as the control variate.

Small curvature is held to mean good generalisation (Hochreiter and Schmidhuber, 1997; Keskar et al., 2017), so the
expected sign is -1. The trace is not invariant under rescaling of layers (Dinh et al., 2017). That of a ReLU network
does not see the kinks between its pieces.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from mmbench.metrics._curvature import gauss_newton_traces, operator
from mmbench.metrics.base import Estimate, Metric
from mmbench.registry import METRICS

if TYPE_CHECKING:
    from mmbench.metrics.subject import Subject


@METRICS.register("hessian_trace")
class HessianTrace(Metric):
    """tr G + tr R; the standard error is that of the probes for tr R, and 0 where tr R is known to vanish."""

    expected_sign = -1

    tolerance: float = Field(0.05, gt=0)
    """Standard error, relative to the trace, at which no more probes are drawn."""
    probes: int = Field(128, ge=2)
    """Hessian-vector products at most; each costs about two gradients."""
    method: Literal["hutchinson", "hutchpp", "xtrace"] = "hutchinson"
    """Estimator of tr R: plain random signs, or with a part of the spectrum taken out (no better on most networks)."""
    images: int = Field(256, ge=1)
    """Training images that the loss is taken on."""

    def measure(self, subject: Subject) -> Estimate:
        """Trace in nats per squared parameter unit; `details` has tr G and the number of products."""
        from mmbench.landscape.multilinear import piecewise_multilinear
        from mmbench.landscape.traces import METHODS, Goal

        exact = float(gauss_newton_traces(subject, self.images).mean())
        surface = subject.surface(self.images)
        if subject.once(("piecewise multilinear", self.images), lambda: piecewise_multilinear(surface)):
            return Estimate(exact, 0.0, details={"gauss_newton": exact, "products": 0.0})
        goal = Goal(self.tolerance, self.probes, known=exact)
        rest = METHODS[self.method](
            operator(subject, self.images, "rest"), surface.point, goal, subject.generator(self.name)
        )
        details = {"gauss_newton": exact, "products": float(rest.products)}
        return Estimate(exact + rest.value, rest.stderr, details=details)
