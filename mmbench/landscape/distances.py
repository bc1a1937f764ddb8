"""Distances between networks of one architecture, and the mean over all pairs with its standard error."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor, nn

from mmbench.landscape.traces import widening


def distances(models: Sequence[nn.Module], by_filter: bool = False) -> Tensor:
    """Distances between the parameters of K networks; running statistics do not count.

    By filter (Li et al., 2018), the square is the mean over all filters f of ||d_f||^2 / ||w_f||^2. A filter is a row
    of a weight; biases and normalisation layers are left out. ||w_f||^2 is the mean over the networks, since it may be
    zero in one of them; a filter that is zero in all of them does not count.

    Args:
        models: K networks with the same parameters.
        by_filter: whether lengths are in units of each filter's norm, instead of Euclidean.

    Returns:
        (K, K), symmetric, float64, on the CPU.
    """
    count, filters = len(models), 0
    squares = torch.zeros(count, count, dtype=torch.float64)
    for tensors in zip(*(model.parameters() for model in models), strict=True):
        if by_filter and tensors[0].dim() < 2:
            continue
        weights = torch.stack([tensor.detach() for tensor in tensors]).double()
        if by_filter:
            weights = weights.flatten(2)
            norms = weights.square().sum(2).mean(0)
            filters += int((norms > 0).sum())
            weights = weights * torch.where(norms > 0, norms.rsqrt(), 0.0)[:, None]
        for i, j in combinations(range(count), 2):  # differences, not products: nothing cancels
            squares[i, j] += float((weights[i] - weights[j]).square_().sum())
    return ((squares + squares.T) / max(filters, 1)).sqrt()


def pair_mean(values: Tensor) -> tuple[float, float | None]:
    """Mean over all pairs of K independent points, and its standard error.

    The value of a pair is taken as m + a_i + a_j + e_ij, with variances s_a of the points and s_e of the pairs, so that
    the mean has the variance 4 s_a / K + 2 s_e / (K (K - 1)). Both are estimated by analysis of variance, as for a
    diallel cross (Griffing, 1956). The jackknife over the points takes s_e for part of s_a: distances of noise in many
    dimensions vary by pair, and its error is up to twice too large. Three points cannot tell the two apart, and get the
    jackknife's. Either is widened by Student's t for few points.

    Args:
        values: (K, K), symmetric; the diagonal does not count.

    Returns:
        The mean, and the error; None for fewer than three points.
    """
    count = len(values)
    off = values - torch.diag(values.diagonal())
    mean = float(off.sum()) / (count * (count - 1))
    if count < 3:
        return mean, None
    effects = (off.sum(1) / (count - 1) - mean) * (count - 1) / (count - 2)  # a_i, less their mean
    rest = (off - mean - effects - effects[:, None]).triu(1).square().sum()
    by_pair = float(rest / (count * (count - 3) / 2)) if count > 3 else 0.0
    by_point = max(0.0, float(effects.var()) - by_pair / (count - 2))
    variance = 4 * by_point / count + 2 * by_pair / (count * (count - 1))
    return mean, widening(count) * variance**0.5
