"""The generalised Gauss-Newton matrix G = (1/N) sum_n J_n' S_n J_n of the mean cross-entropy, and its exact trace.

J_n (C, P) is the Jacobian of image n's logits and S_n = diag(p_n) - p_n p_n' the Hessian of its loss in logit space
(Schraudolph, 2002). For softmax and cross-entropy it is also the Fisher information matrix (Martens, 2020).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from mmbench.landscape.per_image import squared_norms
from mmbench.landscape.surface import Surface, slopes


def image_traces(surface: Surface) -> Tensor:
    """tr(J_n' S_n J_n) for every image: (N,), float64; their mean is tr G. Exact, by C - 1 backward passes."""
    return squared_norms(surface, lambda logits, labels: (logits.shape[1] - 1, softmax_factor(logits)))


def image_fisher_traces(surface: Surface) -> Tensor:
    """||grad log p(y_n | x_n)||^2 at the true labels, for every image: (N,), float64."""
    return squared_norms(surface, lambda logits, labels: (1, [slopes(logits, labels).to(logits)]))


AT_ONCE = 1 << 20
"""Entries of the factor that are computed at a time."""


def softmax_factor(logits: Tensor) -> Iterator[Tensor]:
    """Columns s_k with sum_k s_k s_k' = diag(p) - p p', p = softmax(logits): C - 1 tensors (n, C).

    The Cholesky factor in closed form (Tanabe and Sagae, 1992): with tails r_k = p_k + p_{k+1} + ... + p_C,
    s_k = sqrt(p_k / (r_k r_{k+1})) (0, ..., 0, r_{k+1}, -p_{k+1}, ..., -p_C). The classes are sorted by falling
    probability, so that rounding destroys a tail only when its columns are negligible.

    Args:
        logits: (n, C).

    Yields:
        s_1, ..., s_(C-1), in the dtype of the logits.
    """
    softmax = logits.double().softmax(1)
    p, order = softmax.sort(1, descending=True)
    tails = p.flip(1).cumsum(1).flip(1)
    scale = (p[:, :-1] / (tails[:, :-1] * tails[:, 1:])).sqrt().nan_to_num(0.0, 0.0, 0.0)
    # Images last: there are few classes, and long rows are faster.
    diagonal, scale, below = (x.T.contiguous() for x in (tails[:, 1:] * scale, scale, -softmax))
    rank = torch.argsort(order, 1).T.contiguous()
    for ks in torch.arange(p.shape[1] - 1, device=rank.device).split(max(1, AT_ONCE // rank.numel())):
        k = ks[:, None, None]
        columns = torch.where(rank == k, diagonal[ks, None], (rank > k) * (below * scale[ks, None]))
        yield from columns.mT.to(logits)
