"""NASWOT: whether the images fall into different linear regions of the network (Mellor et al., 2021).

The code of an image has one bit per ReLU unit: whether its input is positive. K_ij is the number of units in which
images i and j agree; the published score is log det K. It is large where codes differ: expected sign +1.

K is singular as soon as two images have the same code or there are fewer units than images, as in small networks. So
the score here is log det(K + I), as if each image had one extra unit of its own. It is always finite, a zero eigenvalue
contributes 0, and where K is well conditioned it is nearly the published score. It grows as N log(units) with the
numbers of images and units, so much of it is size.

Our extension: the code of other activations (GELU, SiLU, ...) is also the sign of their input. Activations must be
modules; functions called in `forward` are not seen. Where their inputs do not have the images in front (tokens first),
each image goes through alone. Batch norms use their running statistics.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from mmbench.errors import UndefinedError
from mmbench.landscape.surface import Surface
from mmbench.metrics._proxy import Proxy, hooked, images_per_pass
from mmbench.metrics.base import METRICS, Estimate
from mmbench.metrics.subject import Subject

RECTIFIERS = {
    *("relu", "relu6", "leakyrelu", "prelu", "rrelu", "elu", "celu", "selu", "gelu", "gelutanh", "quickgelu", "silu"),
    *("swish", "swishme", "mish", "mishme", "hardswish", "hardswishme", "hardmish", "hardmishme"),
}
"""Class names of activations that have a positive and a negative side, torch's and timm's, in lower case."""


@METRICS.register("naswot")
class NASWOT(Proxy):
    """Log-determinant of the agreement of activation codes in evaluation mode; exact, given the images."""

    expected_sign = 1

    images: int = Field(256, ge=1)
    """Training images used."""

    def look(self, subject: Subject) -> Estimate:
        """log det(K + I), between log(1 + N units) and N log(1 + units)."""
        surface = subject.surface(self.images)
        size = images_per_pass(surface, lambda few: torch.cat(_codes(surface, few.images), 1).double())
        passes = [_codes(surface, images) for images in surface.images.images.split(size)]
        units = 0
        kernel = torch.eye(len(surface.images), dtype=torch.float64, device=surface.point.device)
        for call in zip(*passes, strict=True):
            code = torch.cat(call).float()
            both = (code @ code.T).double()  # units on at both images; the number off at both follows from these
            on = both.diagonal()
            kernel += 2 * both - on - on[:, None] + code.shape[1]
            units += code.shape[1]
        return Estimate(float(torch.linalg.slogdet(kernel)[1]), 0.0, details={"units": float(units)})


def _codes(surface: Surface, images: Tensor) -> list[Tensor]:
    """The code of each image (n, units) at every call of an activation."""
    codes: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        codes.append(inputs[0].reshape(len(images), -1) > 0)

    activations = [module for module in surface.model.modules() if type(module).__name__.lower() in RECTIFIERS]
    with torch.no_grad(), hooked(activations, keep):
        surface.model(images)
    if not codes:
        raise UndefinedError("the network has no activation module (ReLU, GELU, ...), so there are no codes to compare")
    return codes
