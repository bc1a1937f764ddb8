"""tr R of a smooth network by forward passes alone, where R = H - G = sum_nc s_nc Hess z_nc.

With the slopes s = dL/dz held fixed, l(w) = sum_nc s_nc z_nc(w) has the Hessian R, and

    [l(w + h v) + l(w - h v) - 2 l(w)] / h^2 = v' R v + O(h^2),

whose mean over random signs v is tr R (Hutchinson, 1990). Two forward passes replace a Hessian-vector product, and
different images may have different v.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from mmbench.landscape.hessian import Curvature, rademacher
from mmbench.landscape.logit_graph import smooth
from mmbench.landscape.surface import Surface, slopes

STEPS = (0.004, 0.008, 0.002, 0.016, 0.001)
"""Values of h to try, in units of the weights' root mean square: small networks need small ones."""
PLENTY = 0.1
"""Fraction of the allowed error below which no other h is tried."""
GROUP = 64
"""Images that share a v; with fewer, the mean is more precise and each pass less efficient."""
TRIED = 16
"""Images on which the difference is compared with the derivative."""


class Differences:
    """Second differences of l at the surface's current point."""

    def __init__(self, surface: Surface) -> None:
        self.surface, self.start = surface, surface.point.clone()
        self.groups: list[tuple[Tensor, Tensor]] = []
        self.here: list[float] = []
        images, labels = surface.images.images, surface.images.labels
        for group, group_labels in zip(images.split(GROUP), labels.split(GROUP), strict=True):
            with torch.no_grad():
                logits = surface.model(group)
            slope = slopes(logits, group_labels) / len(images)
            self.groups.append((group, slope))
            self.here.append(float((logits.double() * slope).sum()))

    def along(self, directions: list[Tensor], step: float) -> float:
        """The sum over groups of images of the second difference along each group's direction (P,); h is `step`."""
        total = 0.0
        for group, here, direction in zip(self.groups, self.here, directions, strict=True):
            for side in (step, -step):
                torch.add(self.start, direction, alpha=side, out=self.surface.point)
                total += self._value(*group) - here
        self.surface.point.copy_(self.start)
        return total / step**2

    def draws(self, generator: torch.Generator, step: float) -> Iterator[float]:
        """Independent draws without end, unbiased for tr R except for the O(h^2).

        The directions of a draw are the same signs, rolled by random offsets, which makes them nearly independent.

        Args:
            generator: of the signs and the offsets, on the CPU.
            step: h, in parameter units.

        Yields:
            Sums over all images.
        """
        while True:
            signs = rademacher(len(self.start), generator, self.start)
            offsets = torch.randint(len(signs), (len(self.groups),), generator=generator)
            yield self.along([signs.roll(int(offset)) for offset in offsets], step)

    def _value(self, images: Tensor, slope: Tensor) -> float:
        with torch.no_grad():
            return float((self.surface.model(images).double() * slope).sum())


def trusted_step(surface: Surface, generator: torch.Generator, share: float, known: float) -> float | None:
    """A step h whose second difference is close to v' R v on a few images.

    Args:
        surface: the loss; its first `TRIED` images are used.
        generator: draws v.
        share: largest error of the difference, relative to `known` + |v' R v|.
        known: tr G on those images.

    Returns:
        h in parameter units; None if the network has kinks, or if no step is accurate enough.
    """
    size = float(surface.point.double().square().mean().sqrt())
    if not size or not smooth(surface):
        return None
    few = surface.on(type(surface.images)(surface.images.images[:TRIED], surface.images.labels[:TRIED]))
    signs = rademacher(len(few.point), generator, few.point)
    exact = float(torch.dot(signs.double(), Curvature(few, "rest")(signs).double()))
    allowed, differences = share * (known + abs(exact)), Differences(few)
    best, least = 0.0, math.inf
    for step in STEPS:
        # A power of two: otherwise the rounding of w + h and w - h would add the slope of l.
        power = 2.0 ** round(math.log2(step * size))
        error = abs(differences.along([signs], power) - exact)
        if error < least:
            best, least = power, error
        if least <= PLENTY * allowed:
            break
    return best if least <= allowed else None
