"""SWAP: the number of different activation patterns of the units over the images (Peng et al., 2024).

The pattern of a unit has one bit per image: whether its input is positive. The score is the number of different
patterns among all units of all activation modules; a unit of a convolution counts at each position. Many patterns mean
an expressive network, so the expected sign is +1. It is at most 2^N for N images, and grows with the number of units;
copies of units do not raise it. (The published score may be damped by a Gaussian in the number of parameters, for a
search of small networks; here it is not.) Batch norms use their running statistics.
"""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from mmbench.errors import UndefinedError
from mmbench.metrics._proxy import Proxy, hooked
from mmbench.metrics.base import METRICS, Estimate
from mmbench.metrics.naswot import RECTIFIERS
from mmbench.metrics.subject import Subject


@METRICS.register("swap")
class SWAP(Proxy):
    """Number of sample-wise activation patterns in evaluation mode; exact, given the images."""

    expected_sign = 1

    images: int = Field(32, ge=1)
    """Training images used."""

    def look(self, subject: Subject) -> Estimate:
        """A number of patterns; `details` has the number of units."""
        surface = subject.surface(self.images)
        codes: list[Tensor] = []

        def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            codes.append(inputs[0].detach().flatten(1) > 0)

        activations = [module for module in surface.model.modules() if type(module).__name__.lower() in RECTIFIERS]
        chunks = 0
        with torch.no_grad(), hooked(activations, keep):
            for pixels, _ in surface.chunks():
                surface.model(pixels)
                chunks += 1
        if not codes:
            raise UndefinedError("the network has no activation module (ReLU, GELU, ...), so there are no patterns")
        calls = len(codes) // chunks
        units = torch.cat([torch.cat(codes[call::calls]) for call in range(calls)], 1)
        packed = np.packbits(units.cpu().numpy(), axis=0)  # (ceil(N / 8), units)
        patterns = np.ascontiguousarray(packed.T).view(np.dtype((np.void, len(packed)))).ravel()
        return Estimate(float(len(np.unique(patterns))), 0.0, details={"units": float(units.shape[1])})
