"""A model whose trainable parameters are views into one contiguous vector.

An optimiser step, gradient clipping, a point on the line between two networks or a distance then takes one operation
instead of one per parameter.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors


class Flat:
    """Moves the P trainable parameters of `model` into `vector` (P,), in place; the model's function does not change.

    Each parameter keeps its memory layout (channels_last stays channels_last).
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        first = self.parameters[0]
        total = sum(p.numel() for p in self.parameters)
        self.vector = torch.empty(total, dtype=first.dtype, device=first.device)
        self._gradient: Tensor | None = None
        # The weight of a convolution with one channel is contiguous in both layouts; only its strides differ.
        self._plain = all(p.stride() == torch.empty(p.shape, device="meta").stride() for p in self.parameters)
        with torch.no_grad():
            for parameter, view in zip(self.parameters, self.views(self.vector), strict=True):
                view.copy_(parameter)
                parameter.data = view

    def views(self, vector: Tensor) -> Sequence[Tensor]:
        """Views of `vector` (P,) with the shapes and memory layouts of the parameters."""
        if self._plain:
            return _unflatten_dense_tensors(vector, self.parameters)
        views, offset = [], vector.storage_offset()
        for parameter in self.parameters:
            views.append(vector.as_strided(parameter.shape, parameter.stride(), offset))
            offset += parameter.numel()
        return views

    @property
    def gradient(self) -> Tensor:
        """The gradient (P,), into which `backward` accumulates; set it to zero before each step."""
        if self._gradient is None:
            self._gradient = torch.zeros_like(self.vector)
            for parameter, view in zip(self.parameters, self.views(self._gradient), strict=True):
                parameter.grad = view
        return self._gradient

    def join(self, tensors: tuple[Tensor, ...] | list[Tensor]) -> Tensor:
        """Tensors with the shapes of the parameters as one vector (P,), in the order of `vector`."""
        if self._plain:
            return _flatten_dense_tensors(tensors)
        joined = torch.empty_like(self.vector)
        for view, tensor in zip(self.views(joined), tensors, strict=True):
            view.copy_(tensor)
        return joined
