"""Points around a network: one ascent step, Gaussian noise, and how far the loss rises there."""

from __future__ import annotations

import copy
import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from mmbench.landscape.surface import Surface

TINY = 1e6
"""No norm is taken to be below so many of the smallest normal numbers."""
SMALL = 1e-12
"""Norms below are taken in float64, since in float32 the squares of a nearly perfect fit's gradient vanish."""

LEAST = 4
"""Pairs of draws that tell how much a rise scatters."""


def norm(vector: Tensor) -> float:
    """Euclidean norm; at least `TINY` of the smallest normal numbers, so that a radius may be divided by it."""
    length = float(torch.linalg.vector_norm(vector))
    if not SMALL < length < math.inf:
        length = float(torch.linalg.vector_norm(vector, dtype=torch.float64))
    return max(length, TINY * torch.finfo(vector.dtype).tiny) if math.isfinite(length) else length


def normal(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal draws shaped like `like`, the same in every dtype and on every device."""
    return torch.randn(like.shape, generator=generator, dtype=torch.float32).to(like)


class _NormalisedLogits(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits = self.model(images)
        return nn.functional.layer_norm(logits, logits.shape[1:], eps=1e-12)


def with_normalised_logits(surface: Surface) -> Surface:
    """The loss of (f - mean f) / sqrt(mean (f - mean f)^2), means over the classes; it moves with this one."""
    other = copy.copy(surface)
    other.model = _NormalisedLogits(surface.model)
    return other


def one_step_rises(surface: Surface, size: int, rho: float, scale: Tensor | None = None) -> Tensor:
    """How far one ascent step lifts the loss of each disjoint batch of `size` images: (batches,), float64.

    The step e = rho T^2 g / ||T g|| is to first order the maximum of L_B(w + e) over ||T^-1 e|| <= rho, with
    T = diag(scale) for a scale (P,), else the identity.
    """
    start, rises = surface.point.clone(), []
    for batch in surface.batches(size):
        loss, step = batch.loss_and_gradient()
        if scale is not None:
            step *= scale
        length = norm(step)
        if scale is not None:
            step *= scale
        torch.add(start, step, alpha=rho / length, out=surface.point)
        rises.append(batch.loss() - loss)
        surface.point.copy_(start)
    return torch.tensor(rises, dtype=torch.float64)


class Rise(NamedTuple):
    """A mean rise of the loss, as well as it is known."""

    value: float
    """Nats."""
    stderr: float | None
    """None where nothing was drawn twice."""
    freedom: float
    """Degrees of freedom of the standard error (Satterthwaite, 1946)."""
    pairs: float
    """Pairs of draws seen by an image, on average."""


def gaussian_rises(
    surface: Surface, sigma: float, size: int, generator: torch.Generator, scale: Tensor | None = None
) -> Iterator[Rise]:
    """Ever better estimates of E[L(w + e)] - L(w) with e ~ N(0, sigma^2 diag(scale)^2); unbiased.

    Draws come in pairs of w + e and w - e, so that the part of the rise that is odd in e drops out; it is most of the
    variance where e is small. Each pair is seen by `size` images, so that the errors of different images average out,
    too. In a trained network a tenth of the images has nearly all of the variance. So they are put into strata in the
    order of 1 - sum_c p_c^2, the trace of the Hessian of their loss by the logits, to which their rise and its scatter
    are proportional as far as the logits are linear, and strata get pairs in that proportion (Neyman, 1934). As logits
    are not linear, none is taken for less than the mean: no stratum gets less than half of its equal share.
    """
    start, logits, labels = surface.point.clone(), surface.logits().double(), surface.images.labels
    spread = 1 - logits.softmax(1).square().sum(1)
    paces = spread.clamp_min(spread.mean()).clamp_min(torch.finfo(torch.float64).tiny)
    strata = [
        _Stratum(
            surface.on(type(surface.images)(surface.images.images[part], labels[part])),
            float(nn.functional.cross_entropy(logits[part], labels[part])),
            len(part) / len(labels),
            float(paces[part].mean()),
        )
        for part in spread.argsort(descending=True, stable=True).split(size)
    ]
    for turn in itertools.count(1):
        for stratum in strata:
            while stratum.pairs < max(min(turn, LEAST), math.ceil(turn * stratum.pace / strata[0].pace)):
                noise = normal(start, generator)
                if scale is not None:
                    noise *= scale
                total = 0.0
                for sign in (1, -1):
                    torch.add(start, noise, alpha=sign * sigma, out=surface.point)
                    total += stratum.surface.loss()
                stratum.take(total / 2 - stratum.loss)
        surface.point.copy_(start)
        yield _together(strata)


@dataclass
class _Stratum:
    """Images that see the same noise, and what is known of their rise."""

    surface: Surface
    loss: float
    share: float
    """Of all images."""
    pace: float
    """To which its pairs are proportional."""
    pairs: int = 0
    mean: float = 0.0
    squares: float = 0.0
    """Summed squares of the deviations from the mean (Welford, 1962)."""

    def take(self, rise: float) -> None:
        self.pairs += 1
        change = rise - self.mean
        self.mean += change / self.pairs
        self.squares += change * (rise - self.mean)


def _together(strata: list[_Stratum]) -> Rise:
    value = sum(stratum.share * stratum.mean for stratum in strata)
    pairs = sum(stratum.share * stratum.pairs for stratum in strata)
    free = [stratum.pairs - 1 for stratum in strata]
    if not all(free):
        return Rise(value, None, 0.0, pairs)
    parts = [s.share * s.share * s.squares / (f * s.pairs) for s, f in zip(strata, free, strict=True)]
    variance, scatter = sum(parts), sum(part * part / f for part, f in zip(parts, free, strict=True))
    return Rise(value, variance**0.5, variance * variance / scatter if scatter else math.inf, pairs)
