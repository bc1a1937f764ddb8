"""Correlation of input Jacobians: does the network respond differently to different images (Mellor et al., 2020).

J_n is the gradient of the sum of image n's logits in its pixels, and l_i are the eigenvalues of the correlation matrix
of the J_n. The score is -sum log(l_i + k) + 1 / (l_i + k) with k = 1e-5. It is largest where all l_i = 1: the network
is then a different local function at each image, so the expected sign is +1. This is the score of the first version of
their paper; `naswot` is that of the last.

With N images of D pixels, at most D - 1 eigenvalues can differ from zero. The score is over the min(N, D - 1) largest:
the published score where N < D, and without a constant of -(1e5 - 11.5) per further image otherwise. An image at which
the network is constant correlates with none, not even itself. Batch norms use their running statistics by default; with
those of the batch, as published, J_n is the gradient of the sum of all images' logits.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmbench.errors import UndefinedError
from mmbench.metrics._proxy import OnOneBatch
from mmbench.metrics.base import METRICS, Estimate
from mmbench.metrics.subject import Subject

K = 1e-5


@METRICS.register("jacob_cov")
class JacobCov(OnOneBatch):
    """Score of the correlations of input Jacobians in evaluation mode; exact, given the images."""

    expected_sign = 1

    def look(self, subject: Subject) -> Estimate:
        """The score; at most -1 for each eigenvalue."""
        surface, rows = self.surface(subject), []
        for images in surface.images.images.split(surface.chunk):
            pixels = images.detach().requires_grad_()
            (jacobian,) = torch.autograd.grad(surface.model(pixels).sum(), pixels, materialize_grads=True)
            rows.append(jacobian.flatten(1))
        return Estimate(_score(torch.cat(rows)), 0.0)


def _score(jacobian: Tensor) -> float:
    """The score of Jacobians (N, D) in any precision."""
    noise = 10 * torch.finfo(jacobian.dtype).eps
    rows = jacobian.double()
    centred = rows - rows.mean(1, keepdim=True)
    norms = centred.norm(dim=1, keepdim=True)
    varies = norms > noise * rows.norm(dim=1, keepdim=True)
    if not varies.any():
        raise UndefinedError(
            "at every image, the gradients of the logits in the pixels are zero or all the same; "
            "are the classifier's weights still zero?"
        )
    unit = torch.where(varies, centred / norms, 0.0)
    count, pixels = unit.shape
    smaller = unit @ unit.T if count < pixels else unit.T @ unit  # both have the same non-zero eigenvalues
    eigenvalues = torch.linalg.eigvalsh(smaller)[-min(count, pixels - 1) :].clamp_min(0)
    return -float(((eigenvalues + K).log() + 1 / (eigenvalues + K)).sum())
