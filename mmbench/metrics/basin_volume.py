"""Local volume of the region around a network in which its predictions stay the same (Scherlis and Belrose, 2025).

Along random unit directions u in the D parameters, r(u) is the radius at which the mean over the images of
KL(p_w || p_{w + r u}) reaches the cutoff. The region's volume is V = V_D(1) E[r^D], V_D(1) that of the unit ball.

    score = E[log r] + log V_D(1) / D <= log V / D,

roughly the log side of a cube of that volume. It is per parameter, because log V is proportional to D and would mostly
measure size. It takes the mean of log r, because log E[r^D] is dominated by the longest direction drawn and grows with
their number; at D = 10^5 its error is thousands of nats. The estimate of V itself is in the details. The score is not
invariant under rescaling of layers. A large region is thought to mean a simple solution, so the expected sign is +1.
"""

from __future__ import annotations

import math

import torch
from pydantic import Field

from mmbench.landscape.perturbations import norm, normal
from mmbench.landscape.rays import Divergence, reach
from mmbench.metrics.base import METRICS, Estimate, Metric, mean_and_error
from mmbench.metrics.subject import Subject

FIRST = 0.01
"""First radius tried along the first direction, divided by sqrt(D); later searches begin where the last one ended."""


@METRICS.register("basin_volume")
class BasinVolume(Metric):
    """Log volume per parameter of the region of unchanged predictions; the standard error is over the directions."""

    expected_sign = 1

    cutoff: float = Field(0.01, gt=0)
    """Divergence, in nats, at which predictions count as changed."""
    directions: int = Field(16, ge=1)
    """Random directions; each costs about three forward passes."""
    largest: float = Field(10.0, gt=0)
    """Root mean square change of the parameters at which the search along a direction stops and takes that radius."""
    images: int = Field(256, ge=1)
    """Training images that the divergence is taken on."""

    def measure(self, subject: Subject) -> Estimate:
        """In units of log parameter; `details` has the raw log volume and how the searches ended."""
        surface, generator = subject.surface(self.images), subject.generator(self.name)
        divergence, size = Divergence(surface), surface.point.numel()
        rays, first, largest = [], math.log(FIRST * size**0.5), math.log(self.largest * size**0.5)
        for _ in range(self.directions):
            direction = normal(surface.point, generator)
            rays.append(reach(divergence, direction.div_(norm(direction)), self.cutoff, first, largest))
            first = rays[-1].log_radius if rays[-1].state == 0 else first
        radii = torch.tensor([ray.log_radius for ray in rays], dtype=torch.float64)
        unit_ball = size / 2 * math.log(math.pi) - math.lgamma(size / 2 + 1)
        value, stderr = mean_and_error(radii)
        volume = unit_ball + float((size * radii).logsumexp(0)) - math.log(len(rays))
        return Estimate(
            value + unit_ball / size,
            stderr,
            details={
                "log_volume": volume,
                "log_volume_per_parameter": volume / size,
                "radius": math.exp(value),
                "beyond_reach": float(sum(ray.state == 1 for ray in rays)),
                "not_converged": float(sum(ray.state == -1 for ray in rays)),
                "forwards": float(sum(ray.tries for ray in rays)),
            },
        )
