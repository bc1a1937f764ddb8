"""Networks without values: their modules, shapes and operation counts, at no cost in memory and hardly any in time."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from mmbench.data.base import InputShape
from mmbench.models.base import Architecture
from mmbench.models.flops import count_flops

INITIALISERS = {"uniform_", "normal_", "fill_", "zero_", "clamp_", "erfinv_", "mul_", "add_", "div_", "trunc_normal_"}


class _WithoutValues(TorchFunctionMode):
    """In-place changes of the values of meta tensors, which have none, are left out: torch takes its time over them."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(function, "__name__", "") in INITIALISERS and args and getattr(args[0], "is_meta", False):
            return args[0]
        return function(*args, **(kwargs or {}))


def skeleton(architecture: Architecture, shape: InputShape) -> nn.Module:
    """The network on the meta device."""
    with torch.device("meta"), _WithoutValues():
        return architecture.build(shape)


@lru_cache(maxsize=64)
def flops(architecture: Architecture, shape: InputShape) -> int:
    """Operations of the forward pass of one image, as `mmbench.models.flops` counts them."""
    image = torch.empty(1, shape.channels, shape.image_size, shape.image_size, device="meta")
    return count_flops(skeleton(architecture, shape).eval(), image)
