"""The paper's metric from the barriers of an expanded model and of its base model, for any quantile and node count.

Malviya et al. (2025, arXiv:2405.15895), algorithm 1 and equation 2. With the barriers b of the n nodes of a network,

    m(theta, lambda, n) = #{i <= n: b_i(theta) <= lambda} / n
    lambda              = the q-quantile of the base model's barriers: the ceil(q n)-th smallest
    M(theta, phi*)      = m(theta, lambda, n) - m(phi*, lambda, n), in percent

The quantile is an order statistic, not interpolated between two: so at least a share q of the base model's nodes lies
at or below it, and m(phi*, lambda, n) = ceil(q n) / n unless barriers are tied. At q = 1 it is the largest barrier.

Barriers are arrays (chains, nodes per chain). The first n nodes are the first of every chain, then the second of every
chain, and so on; so the nodes of a smaller n are among those of a larger one, and every n of a grid can be read off one
run.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from mmbench.errors import UndefinedError

Barriers = npt.NDArray[np.float64]
TIE = 1e-5
"""Relative difference below which two barriers are equal up to rounding: an expansion that leaves the layer as it was
has the base model's barriers, that at the threshold included."""
NORMAL = 1.959964
"""The normal distribution's 97.5 % point."""


def first_nodes(barriers: npt.ArrayLike, n: int | None = None) -> Barriers:
    """The barriers of the first n nodes, chains in turn: (n,); of all nodes by default."""
    listed = np.atleast_2d(np.asarray(barriers, dtype=np.float64)).T.reshape(-1)
    if n is not None and not 1 <= n <= listed.size:
        raise UndefinedError(
            f"{n} nodes were asked for, but barriers of {listed.size} nodes are known: set metric.nodes"
        )
    return listed[:n]


def threshold(base: npt.ArrayLike, q: float, n: int | None = None) -> float:
    """lambda: the ceil(q n)-th smallest barrier of the base model.

    Args:
        base: (chains, nodes per chain) barriers of the base model, nats.
        q: in (0, 1].
        n: nodes that count; all of them by default.

    Returns:
        The threshold in nats.

    Raises:
        UndefinedError: q is not in (0, 1], or there are fewer than n nodes.
    """
    if not 0 < q <= 1:
        raise UndefinedError(f"the quantile must lie above 0 and not above 1: got {q}")
    nodes = np.sort(first_nodes(base, n))
    rank = max(1, math.ceil(q * nodes.size - 1e-9))  # 0.07 * 100 is 7.000000000000001
    return float(nodes[rank - 1])


def share(barriers: npt.ArrayLike, threshold: float, n: int | None = None) -> float:
    """m: the share of the first n nodes whose barrier is at most the threshold.

    Args:
        barriers: (chains, nodes per chain), nats.
        threshold: lambda, nats.
        n: nodes that count; all of them by default.

    Returns:
        Between 0 and 1.

    Raises:
        UndefinedError: there are fewer than n nodes.
    """
    return float(np.mean(first_nodes(barriers, n) <= threshold * (1 + TIE)))


def metric_from_barriers(candidate: npt.ArrayLike, base: npt.ArrayLike, q: float, n: int | None = None) -> float:
    """M: how many more nodes of the expanded model than of its base model are connected.

    Args:
        candidate: (chains, nodes per chain) barriers of the expanded model, nats.
        base: those of its base model.
        q: the quantile, in (0, 1].
        n: nodes that count; all of them by default.

    Returns:
        In percent: from -100 q up to 100 (1 - q), apart from ties.

    Raises:
        UndefinedError: q is not in (0, 1], or there are fewer than n nodes.
    """
    height = threshold(base, q, n)
    return 100 * (share(candidate, height, n) - share(base, height, n))


def standard_error(candidate: npt.ArrayLike, base: npt.ArrayLike, q: float) -> float | None:
    """Standard error of M over the random walks of both networks, of which chains are independent repetitions.

    To first order, M varies like the mean over nodes of

        u = [b(theta) <= lambda] - r [b(phi*) <= lambda],    r = f_theta(lambda) / f_phi*(lambda),

    where the second term is the error of lambda and r the ratio of the densities of barriers at lambda, both counted
    between the base model's quantiles q - w and q + w. Walk c of both networks may have the same draws, so its u is one
    number per step. The nodes of a chain are correlated: the variance of the mean is the sum of the autocovariances of
    u up to the first lag at which they turn negative (in pairs of lags: Geyer, 1992). They are taken around the mean
    over chains at each step, since a chain's first nodes lie near its start. The error is widened by Student's t for
    the number of independent stretches, so that +-1.96 of it cover 95 %. A layer of four or five units has only a few
    different barriers, no density; there the error is too small and +-1.96 of it cover about 80 %.

    Args:
        candidate: (chains, nodes per chain) barriers of the expanded model.
        base: those of its base model, of the same shape.
        q: the quantile, in (0, 1].

    Returns:
        In percentage points; None for one chain, 0 for equal barriers. It leaves out the choice of images.
    """
    ours, theirs = np.atleast_2d(np.asarray(candidate, float)), np.atleast_2d(np.asarray(base, float))
    chains, steps = ours.shape
    if np.array_equal(ours, theirs):
        return 0.0
    if chains == 1:
        return None
    height, width = threshold(theirs, q) * (1 + TIE), min(q, 1 - q, 0.5 * ours.size ** (-1 / 3))
    below, above = threshold(theirs, max(q - width, 1 / ours.size)), threshold(theirs, min(q + width, 1.0))
    near = [float(np.mean((below <= b) & (b <= above))) for b in (ours, theirs)]
    u: Barriers = (ours <= height) - near[0] / max(near[1], 1 / ours.size) * (theirs <= height)
    u = u - u.mean(0)
    # A product of two deviations from a mean over chains is too small by the factor (chains - 1) / chains.
    covariances = [float((u[:, : steps - lag] * u[:, lag:]).sum()) / (steps * (chains - 1)) for lag in range(steps)]
    pairs = [sum(covariances[lag : lag + 2]) for lag in range(0, steps, 2)]
    kept = next((i for i, pair in enumerate(pairs) if pair <= 0), len(pairs))
    variance = max(2 * sum(pairs[:kept]) - covariances[0], covariances[0]) / ours.size
    freedom = (chains - 1) * steps / max(4 * kept - 1, 1)  # stretches as long as the lags that count on both sides
    connected = np.mean(ours <= height)
    if connected in (0, 1):  # no node seen on one side: as if half a node had been
        unseen = 0.5 / (ours.size + 1)
        variance = max(variance, unseen * (1 - unseen) / ours.size)
    return float(100 * np.sqrt(variance) * student(max(freedom, 1.0)) / NORMAL)


def student(freedom: float) -> float:
    """The 97.5 % point of Student's t distribution."""
    from scipy.stats import t

    return float(t.ppf(0.975, freedom))
