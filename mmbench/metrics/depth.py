"""Depth: layers with a kernel (linear layers, convolutions) on the longest path from image to logits. Expected sign +1.

As in the names of networks: a ResNet-18 has 18, since its shortcuts are not on the longest path. It is read off the
graph of one forward pass, so it is defined for every network. A product of two signals, as in attention, is not a
layer. In the known families it is affine in the number d of blocks or hidden layers: d + 1 (mlp), 2 d + 2 or, with
bottlenecks, 3 d + 2 (resnet), 4 d + 2 (vit, mixer), 3 d + 5 (convnext).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mmbench.metrics.base import METRICS, Estimate, Metric
from mmbench.metrics.subject import Subject

PRODUCTS = {"Addmm", "Addmv", "Baddbmm", "Bmm", "Convolution", "CudnnConvolution", "Linear", "Mm", "Mv"}
"""Operations of a layer with a kernel, as the graph names them."""


@METRICS.register("depth")
class Depth(Metric):
    """Number of layers on the longest path, exactly."""

    expected_sign = 1

    def measure(self, subject: Subject) -> Estimate:
        """Count."""
        image = subject.train.images[:1].detach().clone().requires_grad_()
        return Estimate(float(_longest_path(subject.network()(image), image)), 0.0)


def _longest_path(logits: Tensor, image: Tensor) -> int:
    """The largest number of layers on any path; 0 if the logits do not depend on the image."""
    longest: dict[Any, int | None] = {None: None}  # layers from the image to a node; None: independent of the image
    stack = [logits.grad_fn]
    while stack:
        node = stack[-1]
        inputs = [] if node is None else [source for source, _ in node.next_functions]
        if waiting := [source for source in inputs if source not in longest]:
            stack += waiting
            continue
        stack.pop()
        counts = [count for source in inputs if (count := longest[source]) is not None]
        if getattr(node, "variable", None) is image:
            longest[node] = 0
        elif node not in longest:
            longest[node] = max(counts) + _is_layer(node, len(counts)) if counts else None
    return longest[logits.grad_fn] or 0


def _is_layer(node: Any, signals: int) -> bool:
    """Whether a node multiplies one signal with a kernel."""
    kind = type(node).__name__.rstrip("0123456789").removesuffix("Backward").rstrip("0123456789")
    return kind in PRODUCTS and signals == 1
