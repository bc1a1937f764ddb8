"""Zen score: how strongly the features respond to a small change of the image, without labels (Lin et al., 2021).

log E ||f(x) - f(x + alpha e)|| + sum over batch norms of log sqrt(mean of variances), with x and e standard normal. f
are the features before pooling: the output of timm's `forward_features` or, if a network has none, the input of its
last linear layer. An expressive network responds strongly: expected sign +1.

The passes are in evaluation mode: a batch norm divides by its running variances (plus epsilon), and the second term
undoes that, so their scale does not matter. Layer norms are part of f; without batch norms the second term is zero.
Lin et al. remove residual connections; here they stay. They also draw all weights from N(0, 1): `state = random` draws
them from the network's own initialisation, and the other states keep the weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from pydantic import Field
from torch import Tensor, nn

from mmbench.errors import ScoreError, UndefinedError
from mmbench.metrics._proxy import Proxy, hooked
from mmbench.metrics.base import METRICS, Estimate, mean_and_error
from mmbench.metrics.subject import PROBED, Subject


@METRICS.register("zen")
class Zen(Proxy):
    """Zen score in evaluation mode; the standard error is over the Gaussian images."""

    expected_sign = 1

    probes: int = Field(256, ge=1)
    """Gaussian images."""
    alpha: float = Field(0.01, gt=0)
    """Size of the change: the noise's standard deviation in every pixel."""

    def look(self, subject: Subject) -> Estimate:
        """The score; its error is the relative error of the mean norm."""
        surface = subject.surface(PROBED)
        features = _features(surface.model)
        pixels, generator = surface.images.images, subject.generator(self.name)
        shape = (self.probes, *pixels.shape[1:])
        start, change = (torch.randn(shape, generator=generator, dtype=torch.float64).to(pixels) for _ in range(2))
        norms = []
        with torch.no_grad():
            for x, e in zip(start.split(surface.chunk), change.split(surface.chunk), strict=True):
                response = features(x) - features(x + self.alpha * e)
                norms.append(response.flatten(1).norm(dim=1))
        mean, error = mean_and_error(torch.cat(norms))
        if mean == 0:
            raise ScoreError("the network is dead: its features are the same for every image")
        scales = sum(map(_log_scale, _batch_norms(surface.model)))
        return Estimate(math.log(mean) + scales, None if error is None else error / mean)


def _features(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """Images to features."""
    if callable(whole := getattr(model, "forward_features", None)):
        return whole
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]

    def last(images: Tensor) -> Tensor:
        seen: list[Tensor] = []
        with hooked(linear, lambda module, inputs, output: seen.append(inputs[0])):
            model(images)
        if not seen:
            raise UndefinedError("zen needs features: the network has neither `forward_features` nor a linear layer")
        return seen[-1]

    return last


def _batch_norms(model: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    return [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def _log_scale(norm: nn.modules.batchnorm._BatchNorm) -> float:
    """log sqrt of the mean variance that a batch norm divides by."""
    if norm.running_var is None:
        raise UndefinedError("zen needs running statistics, but a batch norm of this network keeps none")
    return float((norm.running_var.double().mean() + norm.eps).log()) / 2
