"""What the graph of a network's logits shows about their second derivatives.

H = G + R, and the diagonal of R = sum_nc s_nc Hess z_nc holds second derivatives of the logits by single weights. They
vanish in a network that is piecewise linear in each of its parameter tensors, such as a ReLU network with batch norms
in evaluation mode: each weight enters linearly, and no path crosses it twice. Then tr H = tr G exactly. If the logits
have no kinks, their finite differences tend to their derivatives.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmbench.landscape.surface import Surface

LOOKED_AT = 32
"""Images whose graph is examined: a network may treat them differently."""
LINEAR = {
    "AdaptiveAvgPool2D", "Add", "Alias", "AsStrided", "AvgPool2D", "Cat", "Clone", "ConstantPadNd", "Expand",
    "Index", "IndexSelect", "Mean", "MkldnnAdaptiveAvgPool2D", "Neg", "Permute", "Repeat", "ReshapeAlias", "Roll",
    "Select", "Slice", "Split", "SplitWithSizes", "Squeeze", "Stack", "Sub", "Sum", "T", "ToCopy", "Transpose",
    "Unbind", "UnsafeView", "Unsqueeze", "View",
}  # fmt: skip
"""Operations that are linear in all their inputs together."""
PIECEWISE = {
    "Abs", "AdaptiveMaxPool2D", "Clamp", "ClampMax", "ClampMin", "Hardtanh", "LeakyRelu", "MaxPool2DWithIndices",
    "Maximum", "Minimum", "Relu", "Threshold",
}  # fmt: skip
"""Piecewise linear operations of one input, or that choose among several."""
PRODUCTS = {
    "Addmm": (1, 2), "Baddbmm": (1, 2), "Bmm": (0, 1), "Convolution": (0, 1), "CudnnBatchNorm": (0, 1),
    "CudnnConvolution": (0, 1), "Mm": (0, 1), "Mul": (0, 1), "NativeBatchNorm": (0, 1),
}  # fmt: skip
"""Operations that multiply two of their inputs; these must not depend on the same parameter."""
SMOOTH = {
    "Div", "Erf", "Exp", "Gelu", "LogSoftmax", "Mish", "NativeGroupNorm", "NativeLayerNorm", "Pow", "Rsqrt",
    "SafeSoftmax", "ScaledDotProductAttentionMath", "ScaledDotProductEfficientAttention",
    "ScaledDotProductFlashAttention", "ScaledDotProductFlashAttentionForCpu", "Sigmoid", "Silu", "Softmax", "Tanh",
}  # fmt: skip
"""Operations that are neither linear nor kinked."""


def smooth(surface: Surface) -> bool:
    """Whether the graph of the logits has no kinks; an unknown operation counts as a kink."""
    known = LINEAR | PRODUCTS.keys() | SMOOTH | {"AccumulateGrad"}
    return all(_kind(node) in known for node in _nodes(surface))


def piecewise_multilinear(surface: Surface) -> bool:
    """Whether the logits are piecewise linear in each parameter tensor; an unknown operation counts as curved."""
    index = {id(p): 1 << i for i, p in enumerate(surface.flat.parameters)}
    reach: dict[Any, int] = {None: 0}  # the parameters that a node depends on, as bits
    for node in _nodes(surface):
        inputs, kind = [source for source, _ in node.next_functions], _kind(node)
        if kind == "AccumulateGrad":
            reach[node] = index.get(id(node.variable), 0)
            continue
        depends = 0
        for source in inputs:
            depends |= reach[source]
        if kind in PRODUCTS:
            a, b = (reach[inputs[i]] if i < len(inputs) else 0 for i in PRODUCTS[kind])
            if a & b or getattr(node, "_saved_training", False):
                return False
        elif kind == "Div":
            if len(inputs) > 1 and reach[inputs[1]]:
                return False
        elif kind not in LINEAR | PIECEWISE:
            return False
        reach[node] = depends
    return True


def _kind(node: Any) -> str:
    return type(node).__name__.rstrip("0123456789").removesuffix("Backward").rstrip("0123456789")


def _nodes(surface: Surface) -> Iterator[Any]:
    """The graph of the logits of a few images, each node after those that it depends on."""
    logits = surface.model(surface.images.images[:LOOKED_AT])
    done = {None}
    stack = [logits.grad_fn]
    while stack:
        node = stack[-1]
        waiting = [] if node is None else [source for source, _ in node.next_functions if source not in done]
        if waiting:
            stack += waiting
            continue
        stack.pop()
        if node not in done:
            done.add(node)
            yield node
