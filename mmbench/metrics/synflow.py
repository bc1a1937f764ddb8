"""Logarithm of SynFlow: the saliency of the kernels in a linearised copy of the network (Tanaka et al., 2020).

R = 1' f(1) is the sum of the logits at an image of ones, with every parameter replaced by its absolute value; the score
is log sum |w dR/dw| over the weights of linear layers and convolutions. It measures the products of weights along all
paths through the network. Many strong paths are thought to be good, so the expected sign is +1. No data are used.

For that, f must be linear with positive coefficients. Normalisation layers (batch, layer, group, instance, RMS) are
left out with their scales and shifts, as published for batch norms. Activations (ReLU, GELU, SiLU, ...) return their
input, as a ReLU does for a positive one. Attention weighs all tokens equally, as softmax does at equal scores, so
queries and keys have no effect. Biases, tokens, position tables and layer scales stay. Published code handles ReLU and
batch norm only; the rest is our extension. Abdelfattah et al. report the sum without the logarithm: the same ranks.

R is 1e30 and more in common networks, so everything is in float64, and the gradient is that of log R. Where R would
still overflow, the image and all biases, tokens and tables are scaled down, which only scales R.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from mmbench.errors import UndefinedError
from mmbench.metrics._proxy import Proxy, is_kernel, kernels
from mmbench.metrics.base import METRICS, Estimate
from mmbench.metrics.subject import Subject

EXPONENTS = (0, -1000)
"""Powers of two by which the inputs are scaled, until R fits into float64."""
NORMS = {"batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm"}
ACTIVATIONS = {
    "relu",
    "relu6",
    "leaky_relu",
    "prelu",
    "rrelu",
    "elu",
    "celu",
    "selu",
    "gelu",
    "silu",
    "mish",
    "hardswish",
}


@METRICS.register("synflow")
class SynFlow(Proxy):
    """Log of the summed synaptic saliency; exact, and independent of the data."""

    expected_sign = 1

    def look(self, subject: Subject) -> Estimate:
        """log sum |w dR/dw|."""
        subject = subject.plain
        subject.require_output()
        model, image = subject.network(), torch.ones_like(subject.train.images[:1], dtype=torch.float64)
        names = list(kernels(model))
        for exponent in EXPONENTS:
            state = _positive(model, 2.0**exponent)
            weights = [state[name].requires_grad_() for name in names]
            with _linear():
                total = torch.func.functional_call(model, state, (image * 2.0**exponent,)).sum()
            if torch.isfinite(total):
                break
        if not total.requires_grad:
            raise UndefinedError(
                "the linearised logits depend on no trainable kernel; does the network end in a softmax? "
                "It must return logits"
            )
        if total == 0:
            raise UndefinedError("all paths to the logits are zero; are the classifier's weights still zero?")
        gradients = torch.autograd.grad(total.log(), weights, materialize_grads=True)
        saliency = sum(float((w.detach() * g).abs().sum()) for w, g in zip(weights, gradients, strict=True))
        if saliency == 0:
            raise UndefinedError("the logits are biases only: the kernels on all paths from the image are zero")
        return Estimate(math.log(float(total.detach())) - exponent * math.log(2) + math.log(saliency), 0.0)


def _positive(model: nn.Module, scale: float) -> dict[str, Tensor]:
    """Absolute values of parameters and buffers in float64; those added to a signal are multiplied by `scale`."""
    state = {}
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if not tensor.is_floating_point():  # a counter or an index
            continue
        table = tensor.dim() > 1 and len(tensor) == 1 and not is_kernel(name, tensor)  # a token or a position table
        added = table or name.endswith("bias")
        state[name] = tensor.detach().double().abs() * (scale if added else 1.0)
    return state


def _linear() -> torch.overrides.TorchFunctionMode:
    """A context that replaces the non-linear functions of a network by linear ones."""

    class Linear(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs, name = kwargs or {}, getattr(function, "__name__", "")
            if name in NORMS or name in ACTIVATIONS:
                return args[0] if args else kwargs["input"]
            if name == "scaled_dot_product_attention":
                query, _, value = args[:3]
                return value.mean(-2, keepdim=True).expand(*query.shape[:-1], value.shape[-1])
            if name == "softmax":
                scores, dim = args[0], kwargs.get("dim", args[1] if len(args) > 1 else -1)
                return torch.full_like(scores, 1 / scores.shape[dim])
            if name == "log_softmax":
                raise UndefinedError("synflow needs logits: this network takes the logarithm of a softmax")
            if name == "multi_head_attention_forward":
                raise UndefinedError("synflow cannot look into nn.MultiheadAttention; use timm's attention")
            return function(*args, **kwargs)

    return Linear()
