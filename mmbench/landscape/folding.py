"""Folding of batch norms, which are affine in evaluation mode, into the layers whose outputs they normalise."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmbench.errors import UndefinedError

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def fold_batch_norms(model: nn.Module, images: Tensor) -> list[_BatchNorm]:
    """Fold, in place, every batch norm into the linear layer or convolution before it.

    With s = gamma / sqrt(variance + eps), a layer W x + b followed by a batch norm becomes s W x + beta + s (b - mean),
    and the batch norm becomes the identity. A batch norm that follows no layer becomes s x + beta - s mean, with its
    weight as scale and its bias as shift. The function does not change.

    Args:
        model: in evaluation mode; a pass of `images` shows which layer each batch norm follows.
        images: (n, C, H, W), any.

    Returns:
        The batch norms that were folded and are now the identity.

    Raises:
        UndefinedError: a batch norm has no running statistics, or a layer's output is used elsewhere, too.
    """
    pairs, before = _pairs(model, images)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                _make_plain(module)
        for norm, layer in pairs.items():
            scale = norm.weight.view(-1, *[1] * (layer.weight.dim() - 1))
            bias = norm.bias if layer.bias is None else norm.bias + norm.weight * layer.bias
            layer.weight, layer.bias = nn.Parameter(scale * layer.weight), nn.Parameter(bias.clone())
            nn.init.ones_(norm.weight)
            nn.init.zeros_(norm.bias)
        after = model(images)
    if not torch.allclose(after, before, rtol=1e-3, atol=1e-4 * float(before.abs().max())):
        raise UndefinedError("the batch norms of this network cannot be folded into the layers before them")
    return list(pairs)


def _make_plain(norm: _BatchNorm) -> None:
    """Move the running statistics of a batch norm into its weight and bias."""
    if norm.running_mean is None or norm.running_var is None:
        raise UndefinedError("a batch norm of this network keeps no running statistics, so it cannot be folded")
    scale = (norm.running_var + norm.eps).rsqrt()
    weight = scale if norm.weight is None else scale * norm.weight
    shift = -norm.running_mean * weight
    norm.weight, norm.bias = nn.Parameter(weight), nn.Parameter(shift if norm.bias is None else norm.bias + shift)
    norm.running_mean.zero_()
    norm.running_var.fill_(1 - norm.eps)


def _pairs(model: nn.Module, images: Tensor) -> tuple[dict[_BatchNorm, Any], Tensor]:
    """The layer that each batch norm follows, where both are used once; and the logits."""
    outputs: dict[int, tuple[Any, Tensor]] = {}  # the tensors are kept so that their ids stay unique
    pairs: dict[_BatchNorm, Any] = {}
    uses: dict[nn.Module, int] = {}

    def note(module: nn.Module, inputs: Any, output: Tensor) -> None:
        uses[module] = uses.get(module, 0) + 1
        if isinstance(module, _BatchNorm):
            layer, dims = outputs.get(id(inputs[0]), (None, None))[0], inputs[0].dim()
            if layer is not None and (dims == 2 or not isinstance(layer, nn.Linear)):
                pairs[module] = layer
        else:
            outputs[id(output)] = module, output

    kinds = (*LAYERS, _BatchNorm)
    handles = [m.register_forward_hook(note) for m in model.modules() if isinstance(m, kinds)]
    with torch.no_grad():
        logits = model(images)
    for handle in handles:
        handle.remove()
    return {norm: layer for norm, layer in pairs.items() if uses[norm] == uses[layer] == 1}, logits
