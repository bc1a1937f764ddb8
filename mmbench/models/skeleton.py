"""Networks without values: their modules and shapes, at no cost in memory and little in time."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from mmbench.data.base import InputShape
from mmbench.models.base import Architecture

INITIALISERS = {"uniform_", "normal_", "fill_", "zero_", "clamp_", "erfinv_", "mul_", "add_", "div_", "trunc_normal_"}


class _WithoutValues(TorchFunctionMode):
    """Skips in-place initialisation of meta tensors, which have no values, because it is slow."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(function, "__name__", "") in INITIALISERS and args and getattr(args[0], "is_meta", False):
            return args[0]
        return function(*args, **(kwargs or {}))


def skeleton(architecture: Architecture, shape: InputShape) -> nn.Module:
    """The network on the meta device."""
    with torch.device("meta"), _WithoutValues():
        return architecture.build(shape)
