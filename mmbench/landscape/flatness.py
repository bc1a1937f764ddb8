"""How much Gaussian noise on its weights a network tolerates before its accuracy falls."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mmbench.landscape.perturbations import normal
from mmbench.landscape.surface import Surface

FIRST, LARGEST, SMALLEST = 2.0**-4, 2.0**4, 2.0**-20
"""The search begins at FIRST and stays within SMALLEST and LARGEST."""
HALVINGS = 2
"""How often the factor-two bracket is halved on a log scale; margins are interpolated within the last bracket."""


@dataclass(frozen=True)
class Tolerance:
    """The largest noise that is tolerated."""

    sigma: float
    log_stderr: float | None
    """Standard error of log sigma over the pairs; None for one pair, or at a limit of the search."""
    limit: int
    """1 if even the largest noise is tolerated, -1 if not even the smallest is, else 0."""
    accuracy: float
    """Accuracy without noise."""
    drop: float
    """Mean drop of the accuracy at the largest sigma tried that is tolerated."""
    searched: int
    """Number of values of sigma tried."""


def margins(surface: Surface) -> Tensor:
    """The label's logit minus the largest other logit (N,), float64; an image is classified correctly if it is > 0."""
    logits, labels = surface.logits().double(), surface.images.labels[:, None]
    own = logits.gather(1, labels)[:, 0]
    margin = own - logits.scatter(1, labels, -math.inf).amax(1)
    huge = torch.finfo(margin.dtype).max / 4  # an overflow is a wrong answer, and its margin may be interpolated
    return margin.nan_to_num(nan=-huge).clamp(-huge, huge)


def tolerated_noise(
    surface: Surface, spread: Callable[[float], Tensor | float], drop: float, pairs: int, generator: torch.Generator
) -> Tolerance:
    """The largest sigma at which noise u ~ N(0, diag(spread(sigma))^2) costs at most `drop` of the accuracy on average.

    All sigma share the same normal draws, in pairs of opposite sign, so that the drop is a function of sigma alone.
    Sigma is doubled or halved from FIRST until the drop is bracketed, and the bracket is then halved on a log scale.
    Inside the last bracket each margin is taken as linear in sigma, which gives the crossing. The function need not be
    monotone: the result is the first crossing at the resolution of the doubling.

    Args:
        surface: the network and the images that its accuracy is taken on; its point is restored afterwards.
        spread: maps sigma to standard deviations, (P,) or one for all weights, that grow with sigma.
        drop: accuracy that the noise may cost, in (0, 1).
        pairs: pairs of opposite draws to average over.
        generator: of the draws, on the CPU.

    Returns:
        Sigma, its error, and how the search ended.
    """
    start, seeds = surface.point.clone(), torch.randint(2**62, (pairs,), generator=generator).tolist()
    accuracy = float((margins(surface) > 0).double().mean())
    tried: dict[float, Tensor] = {}

    def lost(sigma: float) -> float:
        if sigma not in tried:
            tried[sigma] = _noisy_margins(surface, start, spread(sigma), seeds)
        return accuracy - float((tried[sigma] > 0).double().mean())

    low, high = _bracket(lost, drop)
    if low is None or high is None:
        end, limit = (SMALLEST, -1) if low is None else (LARGEST, 1)
        return Tolerance(end, None, limit, accuracy, lost(end), len(tried))
    for _ in range(HALVINGS):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if lost(middle) > drop else (middle, high)
    share = _crossing(tried[low], tried[high], accuracy, drop)
    sigma = low + share * (high - low)
    each = (torch.lerp(tried[low], tried[high], share) > 0).double().mean((1, 2))
    slope = (lost(high) - lost(low)) / math.log(high / low)
    error = float(each.std()) / pairs**0.5 / slope if pairs > 1 else None
    return Tolerance(sigma, error, 0, accuracy, lost(low), len(tried))


def _noisy_margins(surface: Surface, start: Tensor, spread: Tensor | float, seeds: list[int]) -> Tensor:
    """Margins (pairs, 2, N). The noise is drawn again for each sigma, so only a few vectors are in memory."""
    noisy = []
    for seed in seeds:
        noise = normal(start, torch.Generator().manual_seed(seed)).mul_(spread)
        for sign in (1, -1):
            torch.add(start, noise, alpha=sign, out=surface.point)
            noisy.append(margins(surface))
    surface.point.copy_(start)
    return torch.stack(noisy).view(len(seeds), 2, -1)


def _bracket(lost: Callable[[float], float], drop: float) -> tuple[float | None, float | None]:
    """A sigma that is tolerated, and its double, which is not; None for one that would lie beyond the limits."""
    sigma = FIRST
    if lost(sigma) <= drop:
        while sigma < LARGEST:
            if lost(2 * sigma) > drop:
                return sigma, 2 * sigma
            sigma *= 2
        return sigma, None
    while sigma > SMALLEST:
        if lost(sigma / 2) <= drop:
            return sigma / 2, sigma
        sigma /= 2
    return None, sigma


def _crossing(low: Tensor, high: Tensor, accuracy: float, drop: float) -> float:
    """Where the drop is first exceeded between two sets of margins, interpolated linearly: 0 at low, 1 at high."""
    turning = (low > 0) != (high > 0)
    shares, order = (low[turning] / (low[turning] - high[turning])).sort()
    change = torch.where(high[turning][order] > 0, 1, -1)
    counts = (low > 0).sum() + change.cumsum(0)
    return float(shares[accuracy - counts.double() / low.numel() > drop][0])
