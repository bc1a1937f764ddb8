"""Spectral norms of the layers: sum over layers of log ||A||_2^2, where A is the layer as a linear operator.

The product of the norms bounds how strongly the logits respond to the image, and with it the generalisation gap of a
plain network (Bartlett et al., 2017; Neyshabur et al., 2018): expected sign -1. It grows with every layer of norm above
one; across depths, Jiang et al. (2020) found a correlation of the opposite sign.

Linear layers and convolutions count, once per use; so do the projections of `nn.MultiheadAttention`, each weight as it
is stored: those of queries, keys and values as one matrix where they are. A convolution is treated as the full
operator, with its stride, padding and groups, at the image size that it sees: reshaping its kernel into a matrix gives
a different number, and the Fourier transform (Sedghi et al., 2019) is exact for circular padding only. Batch norms are
folded in with their running statistics; one that follows no layer counts by itself. Other normalisation layers, which
are not linear, and biases are left out, as is everything that follows a layer (a shortcut, attention). The score is
undefined if a layer is zero, as the last one of an identity block may be, and for recurrent layers and embeddings.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from pydantic import Field
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmbench.errors import UndefinedError
from mmbench.landscape.folding import LAYERS, fold_batch_norms
from mmbench.landscape.operator_norm import squared_norm
from mmbench.metrics._proxy import hooked
from mmbench.metrics.base import METRICS, Estimate, Metric
from mmbench.metrics.subject import PROBED, Subject
from mmbench.models.flops import unfused

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
OTHERS = (nn.RNNBase, nn.RNNCellBase, nn.Bilinear, nn.Embedding, nn.EmbeddingBag)
"""Layers whose weights do not act as one linear operator on one input."""


@METRICS.register("spectral_norm")
class SpectralNorm(Metric):
    """Sum of log squared norms, in float64; in place of a standard error it has a bound on the error."""

    expected_sign = -1

    tolerance: float = Field(1e-6, gt=0)
    """Residual of each layer's squared norm, relative to it, at which the iteration stops."""

    def measure(self, subject: Subject) -> Estimate:
        """In nats; `details` has the number of layers."""
        subject = subject.plain
        subject.surface(PROBED)  # raises for broken networks
        model, image = subject.network().double(), subject.train.images[:1].double()
        folded = fold_batch_norms(model, image)
        generator, total, bound, count = subject.generator(self.name), 0.0, 0.0, 0
        for name, layer, shape in _layers(model, image):
            if layer in folded:
                continue
            if isinstance(layer, _BatchNorm):
                square, error = float(layer.weight.abs().max()) ** 2, 0.0
            else:
                square, error = squared_norm(layer, shape, generator, self.tolerance)
            if not square:
                raise UndefinedError(f"the weights of layer {name!r} are zero, and so is the product of all norms")
            total, bound, count = total + math.log(square), bound + error, count + 1
        if not count:
            raise UndefinedError("the network has no linear layer or convolution")
        return Estimate(total, bound, details={"layers": float(count)})


def _layers(model: nn.Module, image: torch.Tensor) -> list[tuple[str, Any, torch.Size]]:
    """Name, module and input shape for every use of a layer, in the order of the forward pass."""
    kinds = (*LAYERS, *TRANSPOSED, _BatchNorm, nn.MultiheadAttention, *OTHERS)
    names: dict[nn.Module, str] = {module: name for name, module in model.named_modules() if isinstance(module, kinds)}
    uses: list[tuple[str, Any, torch.Size]] = []

    def use(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: object) -> None:
        if isinstance(module, OTHERS):
            raise UndefinedError(
                f"layer {names[module]!r} is a {type(module).__name__}: the spectral norm is defined here for linear "
                "layers, convolutions and attention"
            )
        if isinstance(module, nn.MultiheadAttention):
            uses.extend(
                (f"{names[module]}.{key}", layer, layer.weight.shape[1:]) for key, layer in _projections(module)
            )
        else:
            uses.append((names[module], module, inputs[0].shape))

    with torch.no_grad(), unfused(), hooked(names, use):
        model(image)
    return uses


def _projections(attention: nn.MultiheadAttention) -> Iterator[tuple[str, nn.Linear]]:
    """The weights that attention multiplies its inputs with, as linear layers."""
    for key, weight in (*attention.named_parameters(recurse=False), ("out_proj", attention.out_proj.weight)):
        if key.endswith("weight") or key == "out_proj":
            layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
            layer.weight = nn.Parameter(weight.detach())
            yield key.removesuffix("_weight"), layer
