"""Layers whose second backward pass is cheap.

A product with the Hessian goes backward through the graph of a backward pass. There torch's GELU and layer norm take a
dozen temporaries each, batch norm in evaluation mode takes those of training, and ReLU fills a tensor with zeros and
adds it. Within `CheapSecondBackward()` networks are built from the same functions with second derivatives in closed
form; what depends on the point alone is computed once and kept with the graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class CheapSecondBackward(TorchFunctionMode):
    """Calls of the functions in `CHEAP`, by whatever module, go to their replacements.

    Not where what is saved for the backward pass is handled by hooks: checkpointing forgets it, and later computes it
    anew with the functions as they are.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        hooked = torch._C._autograd._top_saved_tensors_default_hooks(True) is not None
        return (func if hooked else CHEAP.get(func, func))(*args, **(kwargs or {}))


PRECISE = torch.float32, torch.float64
"""Dtypes whose rounding the replacements do not add to; torch's own functions compute in float32 what is narrower."""


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """In evaluation mode an affine map of each channel."""
    if running_mean is None or running_var is None or weight is None or bias is None or training:
        return functional.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    if input.dtype not in PRECISE:
        return functional.batch_norm(input, running_mean, running_var, weight, bias, eps=eps)
    shape = (1, -1, *[1] * (input.dim() - 2))
    scale = weight * (running_var + eps).rsqrt()
    return torch.addcmul((bias - running_mean * scale).view(shape), input, scale.view(shape))


def _relu(input: Tensor, inplace: bool = False) -> Tensor:
    if inplace or not math.isfinite(input.detach().amin() if input.numel() else 0.0):
        return functional.relu(input, inplace=inplace)
    return input * (input > 0).to(input)


def _gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """x P(x), P the normal distribution function with density p: f' = P + x p, f'' = (2 - x^2) p."""
    if approximate != "none" or input.dtype not in PRECISE:
        return functional.gelu(input, approximate=approximate)
    z = input.detach()
    density = (z.square() * -0.5).exp_().mul_(1 / math.sqrt(2 * math.pi))
    first = (z * math.sqrt(0.5)).erf_().add_(1).mul_(0.5).addcmul_(z, density)
    return _Activation.apply(input, functional.gelu, first, density.mul_(2 - z.square()))


def _silu(input: Tensor, inplace: bool = False) -> Tensor:
    """x s(x), s the logistic function: f' = s (1 + x (1 - s)), f'' = s (1 - s) (2 + x (1 - 2 s))."""
    if inplace or input.dtype not in PRECISE:
        return functional.silu(input, inplace=inplace)
    z = input.detach()
    s = z.sigmoid()
    return _Activation.apply(input, functional.silu, s * (1 + z * (1 - s)), s * (1 - s) * (2 + z * (1 - 2 * s)))


class _Activation(Function):
    """f(x), entry by entry, with its first two derivatives at x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, f: Callable[[Tensor], Tensor], first: Tensor, second: Tensor) -> Tensor:
        ctx.save_for_backward(x, first, second)
        return f(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Any, ...]:
        x, first, second = ctx.saved_tensors
        if torch.is_grad_enabled():
            return _Slope.apply(g, x, first, second), None, None, None
        return g * first, None, None, None


class _Slope(Function):
    """g f'(x)."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, first: Tensor, second: Tensor) -> Tensor:
        ctx.save_for_backward(first, g * second)
        return g * first

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, u: Tensor) -> tuple[Any, ...]:
        first, second = ctx.saved_tensors
        return u * first, u * second, None, None


def _layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    plain = len(normalized_shape) > 1 or weight is None or bias is None
    if plain or input.dtype not in PRECISE:
        return functional.layer_norm(input, normalized_shape, weight, bias, eps)
    return _LayerNorm.apply(input, weight, bias, eps)


class _LayerNorm(Function):
    """n w + b, with n = (x - mean x) r and r = (var x + eps)^-1/2 over the last dimension."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        y, mean, r = torch.native_layer_norm(x, weight.shape, weight, bias, eps)
        ctx.save_for_backward(x, weight, bias, mean, r)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Any, ...]:
        if torch.is_grad_enabled():
            return *_LayerNormSlope.apply(g, *ctx.saved_tensors), None
        x, weight, bias, mean, r = ctx.saved_tensors
        return *_layer_norm_backward(g, x, weight.shape, mean, r, weight, bias, [True] * 3), None


class _LayerNormSlope(Function):
    """(B a, sum n g, sum g) with a = g w, the sums over all rows, and B a = r (a - mean a - n mean(n a)).

    B is symmetric and linear in a. Its derivative with respect to x, in a direction u and transposed, is
    -r n mean(u B a) - r B a mean(u n) - r mean(a n) B u.
    """

    @staticmethod
    def forward(
        ctx: Any, g: Tensor, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, r: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        slopes = _layer_norm_backward(g, x, weight.shape, mean, r, weight, bias, [True] * 3)
        n = (x - mean) * r
        ctx.save_for_backward(g, x, weight, mean, r, n, slopes[0], -r * _mean(g * weight * n), -r / x.shape[-1])
        return slopes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, u: Tensor, to_weight: Tensor, to_bias: Tensor) -> tuple[Any, ...]:
        g, x, weight, mean, r, n, ba, curve, share = ctx.saved_tensors

        def b(rows: Tensor) -> Tensor:
            return _layer_norm_backward(rows, x, weight.shape, mean, r, None, None, [True, False, False])[0]

        bu = b(u)
        of_g = torch.addcmul(to_bias, bu, weight).addcmul_(n, to_weight)
        of_x = b((g * to_weight).addcmul_(u, curve))
        of_x.addcmul_(n, (u * ba).sum(-1, keepdim=True).mul_(share))
        of_x.addcmul_(ba, (u * n).sum(-1, keepdim=True).mul_(share))
        return of_g, of_x, (bu * g).flatten(0, -2).sum(0), None, None, None


def _mean(rows: Tensor) -> Tensor:
    return rows.mean(-1, keepdim=True)


_layer_norm_backward = torch.ops.aten.native_layer_norm_backward

CHEAP: dict[Any, Callable[..., Tensor]] = {
    functional.batch_norm: batch_norm,
    functional.gelu: _gelu,
    functional.layer_norm: _layer_norm,
    functional.relu: _relu,
    functional.silu: _silu,
    torch.relu: _relu,
}
"""What is replaced, and by what."""
