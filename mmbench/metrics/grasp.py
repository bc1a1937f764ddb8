"""GraSP: how the kernels affect the gradient flow, -w' H g (Wang et al., 2020; Abdelfattah et al., 2021).

g and H are the gradient and Hessian of the mean cross-entropy in the kernels w (weights of linear layers and
convolutions), with the other parameters held fixed, as published. Since w' H g is the slope of ||g||^2 / 2 as all
kernels are scaled up, the score is positive where larger weights would flatten the loss.

Mind the sign. As a pruning rule, GraSP keeps the weights with the largest w (Hg), whose removal would reduce the
gradient most, so by its theory a small score is good. Abdelfattah et al. reversed the sign after they saw the
accuracies. The score and its expected sign +1 are theirs: this tests the published proxy, not a theory. With
`batch_norm = batch` it is that of their code, which has no temperature; Wang et al. divide the logits by 200.
"""

from __future__ import annotations

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from mmbench.metrics._proxy import OnOneBatch, kernels
from mmbench.metrics.base import METRICS, Estimate
from mmbench.metrics.subject import Subject


@METRICS.register("grasp")
class GraSP(OnOneBatch):
    """-w' H g in evaluation mode; exact, given the images."""

    expected_sign = 1

    def look(self, subject: Subject) -> Estimate:
        """The sum over kernel weights of -w (Hg), in squared nats per squared parameter unit."""
        surface = self.surface(subject.plain)
        weights = list(kernels(surface.model).values())
        gradient, product = ([torch.zeros_like(w) for w in weights] for _ in range(2))
        with sdpa_kernel(SDPBackend.MATH):  # fused attention has no second derivative
            for share in surface.chunk_losses():
                # H is symmetric: g' (Hw) needs H w, whose double backward pass gives g along the way.
                first = torch.autograd.grad(share, weights, create_graph=True, materialize_grads=True)
                slope = torch.stack([(w.detach() * g).sum() for w, g in zip(weights, first, strict=True)]).sum()
                second = torch.autograd.grad(slope, weights, materialize_grads=True)
                for totals, parts in ((gradient, first), (product, second)):
                    for total, part in zip(totals, parts, strict=True):
                        total += part.detach()
        return Estimate(-sum(float((g.double() * hw).sum()) for g, hw in zip(gradient, product, strict=True)), 0.0)
