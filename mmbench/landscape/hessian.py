"""Quadratic forms of the Hessian by double backward passes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

if TYPE_CHECKING:
    from torch import Tensor

    from mmbench.landscape.surface import Surface


def rademacher_forms(surface: Surface, probes: int, generator: torch.Generator) -> Tensor:
    """v' H v for random sign vectors v, where H is the Hessian of the surface's loss at its point: (probes,), float64.

    The graph of the gradient is built once per chunk of images and used by all probes. Each probe is drawn again from
    its own seed for every chunk, so memory stays at a few vectors however many probes there are. Attention runs in its
    plain form, since the fused kernels have no second derivative.
    """
    forms = torch.zeros(probes, dtype=torch.float64)
    seeds = torch.randint(2**62, (probes,), generator=generator).tolist()
    parameters = surface.flat.parameters
    with sdpa_kernel(SDPBackend.MATH):
        for share in surface.chunk_losses():
            # A parameter may be unused, and a linear network's gradient independent of some: their rows of H are zero.
            gradients = torch.autograd.grad(share, parameters, create_graph=True, materialize_grads=True)
            for probe, seed in enumerate(seeds):
                signs = _signs(surface.point, seed)
                pairs = zip(gradients, surface.flat.views(signs), strict=True)
                slope = torch.stack([(gradient * view).sum() for gradient, view in pairs]).sum()
                products = torch.autograd.grad(
                    slope, parameters, retain_graph=probe < probes - 1, materialize_grads=True
                )
                forms[probe] += float(torch.dot(surface.flat.join(products).double(), signs.double()))
    return forms


def _signs(like: Tensor, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randint(0, 2, like.shape, generator=generator, dtype=torch.int8) * 2 - 1
    return signs.to(like)
