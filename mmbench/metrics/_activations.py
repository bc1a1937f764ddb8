"""What the units of a network do on the images: activations unit by unit, and the features before the classifier."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mmbench.errors import UndefinedError
from mmbench.landscape.surface import Surface
from mmbench.metrics._proxy import hooked
from mmbench.metrics.naswot import RECTIFIERS
from mmbench.metrics.subject import Subject

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def activations(subject: Subject, images: int) -> list[Tensor]:
    """The outputs of every call of an activation module, with the units last: (N, ..., units) each.

    The units of a convolution's output are its channels, those of a linear layer's the last dimension: which of the two
    it is, the layer before the activation says.

    Args:
        subject: what is measured.
        images: training images.

    Returns:
        A tensor for each call, in the order of the calls, all images together.

    Raises:
        UndefinedError: the network calls no activation module.
    """
    surface = subject.surface(images)
    return subject.once(("activations", images), lambda: _activations(surface))


def _activations(surface: Surface) -> list[Tensor]:
    first = {"channels": False}
    calls: list[Tensor] = []

    def look(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(module, (*CONVOLUTIONS, nn.Linear)):
            first["channels"] = isinstance(module, CONVOLUTIONS)
        elif type(module).__name__.lower() in RECTIFIERS:
            calls.append(output.detach().movedim(1, -1) if first["channels"] and output.dim() > 2 else output.detach())

    chunks = 0
    with torch.no_grad(), hooked(surface.model.modules(), look):
        for pixels, _ in surface.chunks():
            surface.model(pixels)
            chunks += 1
    if not calls:
        raise UndefinedError("the network has no activation module (ReLU, GELU, ...), so it has no units to look at")
    each = len(calls) // chunks
    return [torch.cat(calls[call::each]) for call in range(each)]


def classifier(subject: Subject, images: int) -> tuple[nn.Linear, Tensor, Tensor]:
    """The linear layer that gives the logits, its inputs (N, d), and the logits (N, classes).

    Args:
        subject: what is measured.
        images: training images.

    Returns:
        The layer, the features and the logits, float64, without a graph.

    Raises:
        UndefinedError: the logits are not those of one linear layer.
    """
    surface = subject.surface(images)
    return subject.once(("classifier", images), lambda: _classifier(surface))


def _classifier(surface: Surface) -> tuple[nn.Linear, Tensor, Tensor]:
    last: dict[str, Any] = {}
    features: list[Tensor] = []
    logits: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        last.update(layer=module, inputs=inputs[0].detach(), output=output.detach())

    linear = [module for module in surface.model.modules() if isinstance(module, nn.Linear)]
    with torch.no_grad(), hooked(linear, keep):
        for pixels, _ in surface.chunks():
            out = surface.model(pixels)
            if not last or last["output"].shape != out.shape or not torch.equal(last["output"], out):
                raise UndefinedError("the network's logits are not the output of a linear layer (nn.Linear)")
            features.append(last["inputs"].double())
            logits.append(out.double())
    return last["layer"], torch.cat(features), torch.cat(logits)
