"""Depth: layers with a kernel (linear layers, convolutions) on the longest path from image to logits. Expected sign +1.

As in the names of networks: a ResNet-18 has 18, since its shortcuts are not on the longest path. It is read off the
operations of one forward pass, so it is defined for every network. A product of two signals, as in attention, is not a
layer, nor is the look-up of an embedding; a recurrent layer counts once for every step. In the known families it is
affine in the number d of blocks or hidden layers: d + 1 (mlp), 2 d + 2 or, with bottlenecks, 3 d + 2 (resnet), 4 d + 2
(vit, mixer), 3 d + 5 (convnext).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mmbench.metrics.base import METRICS, Estimate, Metric
from mmbench.metrics.subject import Subject
from mmbench.models.flops import unfused

PRODUCTS = {
    **dict.fromkeys(("addbmm", "addmm", "addmv", "baddbmm"), (1, 2)),
    **dict.fromkeys(("bmm", "convolution", "linear", "mm", "mv"), (0, 1)),
    "_trilinear": (0, 1, 2),
}
"""Operations of a layer with a kernel, and which of their inputs are multiplied."""


@METRICS.register("depth")
class Depth(Metric):
    """Number of layers on the longest path, exactly."""

    expected_sign = 1

    def measure(self, subject: Subject) -> Estimate:
        """Count."""
        subject.require_output()
        image = subject.train.images[:1]
        # Twice: a batch norm without running statistics takes no single image.
        return Estimate(float(longest_path(subject.network(), torch.cat([image, image]))), 0.0)


def longest_path(model: nn.Module, images: Tensor) -> int:
    """The largest number of layers on any path; 0 if the logits do not depend on the images (N, C, H, W)."""
    depths = _Depths(images)
    with torch.no_grad(), unfused(), depths:
        logits = model(images)
    return depths.of(logits) or 0


class _Depths(TorchDispatchMode):
    """Keeps for each memory how many layers lie on the longest path from the image to what is stored there."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.known: dict[int, int] = {}
        self.kept: list[Any] = []  # an address is not used again while its memory is kept
        self._set(images, 0)

    def of(self, tensor: Tensor) -> int | None:
        """None for what does not depend on the image."""
        return self.known.get(tensor.untyped_storage()._cdata)

    def _set(self, tensor: Tensor, depth: int) -> None:
        storage = tensor.untyped_storage()
        self.kept.append(storage)
        self.known[storage._cdata] = max(depth, self.known.get(storage._cdata, 0))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        outputs = func(*args, **(kwargs or {}))
        signals = [self.of(x) for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        depths = [depth for depth in signals if depth is not None]
        if depths:
            factors = PRODUCTS.get(func.overloadpacket.__name__, ())
            layer = bool(factors) and sum(self.of(args[i]) is not None for i in factors) == 1
            for output in tree_leaves(outputs):
                if isinstance(output, Tensor):
                    self._set(output, max(depths) + layer)
        return outputs
