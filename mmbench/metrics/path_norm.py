"""Logarithm of the path norm: the sum over all paths from image to logits of the product of squared weights.

For a network with f(c x) = c f(x) between its biases (ReLU, pooling, shortcuts), this is the sum of its logits at an
image of ones, with every parameter squared (Neyshabur et al., 2015; as a complexity measure, Jiang et al., 2020). A
path may begin at a bias. Batch norms are first folded with their running statistics; one that follows no layer counts
as a layer. Pooling is unchanged: an average keeps its 1 / n, a maximum takes the strongest of its paths.

It is invariant under rescaling of ReLU units, permutation and folding, but not under duplication of units. A small path
norm gives a small bound on the generalisation gap: expected sign -1. Where a network is curved (GELU, LayerNorm,
attention) or saturates (ReLU6), products of weights along paths do not describe its function, and the path norm is
undefined. Everything is in float64; where that would over- or underflow, the image and all biases are scaled, which
only scales the sum.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mmbench.errors import ScoreError, UndefinedError
from mmbench.landscape.folding import fold_batch_norms
from mmbench.landscape.logit_graph import piecewise_multilinear
from mmbench.metrics.base import METRICS, Estimate, Metric
from mmbench.metrics.subject import PROBED, Subject

EXPONENTS = (0, -1000, 1000)
"""Powers of two by which the inputs are scaled, until the sum fits into float64."""


@METRICS.register("path_norm")
class PathNorm(Metric):
    """Log of the sum of squared path weights; exact, and independent of the data."""

    expected_sign = -1

    def measure(self, subject: Subject) -> Estimate:
        """The logarithm, in nats."""
        subject = subject.plain
        surface = subject.surface(PROBED)
        if not subject.once(("piecewise multilinear", PROBED), lambda: piecewise_multilinear(surface)):
            raise UndefinedError(
                "the path norm needs a piecewise linear network (ReLU, batch norm, pooling); this one has other "
                "operations, such as LayerNorm, GELU or attention"
            )
        model = subject.network().double()
        fold_batch_norms(model, subject.train.images[:1].double())
        ones = torch.ones_like(subject.train.images[:1], dtype=torch.float64)
        for exponent in EXPONENTS:
            total = _sum_of_paths(model, ones, exponent)
            if 0 < total < math.inf:
                break
        if not total:
            raise ScoreError("the network is dead: all of its paths are zero")
        if not math.isclose(2 * _sum_of_paths(model, ones, exponent - 1), total, rel_tol=1e-9):
            raise UndefinedError("the path norm needs f(c x) = c f(x) between the biases; this network saturates")
        return Estimate(math.log(total) - exponent * math.log(2), 0.0)


def _sum_of_paths(model: nn.Module, ones: Tensor, exponent: int) -> float:
    """The summed logits of the squared network, times a power of two."""
    scale = 2.0**exponent
    squared = {
        name: p.detach().square() * (scale if name.split(".")[-1].endswith("bias") else 1.0)
        for name, p in model.named_parameters()
    }
    with torch.no_grad():
        return float(torch.func.functional_call(model, squared, (ones * scale,)).sum())
