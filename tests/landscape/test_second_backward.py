"""Replacements for the second backward pass against torch's own functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from mmbench.landscape import second_backward
from mmbench.landscape.second_backward import CHEAP, CheapSecondBackward

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    Layer = Callable[[Tensor, Tensor, Tensor], Tensor]

MEAN, VARIANCE = torch.tensor([0.3, -0.2, 1.0]).double(), torch.tensor([0.5, 2.0, 1.0]).double()
LAYERS: dict[str, tuple[Layer, tuple[int, ...]]] = {
    "relu": (lambda x, w, b: functional.relu(x) * w + b, (5, 3)),
    "torch.relu": (lambda x, w, b: torch.relu(x) * w + b, (5, 3)),
    "gelu": (lambda x, w, b: functional.gelu(x * w + b), (5, 3)),
    "gelu by tanh": (lambda x, w, b: functional.gelu(x * w + b, approximate="tanh"), (5, 3)),
    "silu": (lambda x, w, b: functional.silu(x * w + b), (5, 3)),
    "layer norm": (lambda x, w, b: functional.layer_norm(x, (3,), w, b), (5, 3)),
    "layer norm of tokens": (lambda x, w, b: functional.layer_norm(x, (3,), w, b, 0.1), (5, 4, 3)),
    "layer norm of channels": (lambda x, w, b: functional.layer_norm(x.movedim(1, -1), (3,), w, b), (5, 3, 2, 2)),
    "layer norm without scale": (lambda x, w, b: functional.layer_norm(x * w + b, (3,)), (5, 3)),
    "layer norm of all": (lambda x, w, b: functional.layer_norm(x * w + b, (4, 3)), (5, 4, 3)),
    "batch norm": (lambda x, w, b: functional.batch_norm(x, MEAN, VARIANCE, w, b), (5, 3)),
    "batch norm of images": (lambda x, w, b: functional.batch_norm(x, MEAN, VARIANCE, w, b), (5, 3, 2, 2)),
    "batch norm without scale": (lambda x, w, b: functional.batch_norm(x * w + b, MEAN, VARIANCE), (5, 3)),
    "batch norm of a batch": (lambda x, w, b: functional.batch_norm(x, None, None, w, b, training=True), (5, 3)),
}


def twice(layer: Layer, shape: tuple[int, ...]) -> list[Tensor]:
    """Value, gradient and a product with the Hessian of a curved function of the layer's output."""
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(s, generator=generator, dtype=torch.float64) for s in (shape, (3,), (3,)) * 2]
    points = [p.requires_grad_() for p in drawn[:3]]
    y = layer(*points)
    c = torch.randn(y.shape, generator=generator, dtype=torch.float64)
    first = torch.autograd.grad(torch.sin(y * c).sum(), points, create_graph=True, materialize_grads=True)
    second = torch.autograd.grad(first, points, drawn[3:], retain_graph=True, materialize_grads=True)
    return [y, *first, *second]


@pytest.mark.parametrize("name", LAYERS)
def test_it_is_torch_s_own_function_with_its_derivatives(name: str) -> None:
    truth = twice(*LAYERS[name])
    with CheapSecondBackward():
        found = twice(*LAYERS[name])
    for mine, torch_s in zip(found, truth, strict=True):
        assert torch.allclose(mine, torch_s, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["gelu", "silu", "layer norm", "layer norm of tokens"])
def test_it_is_the_replacement_that_is_compared(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the own backward passes, spoiled, is noticed."""
    for kind in (second_backward._Slope, second_backward._LayerNormSlope):
        backward = kind.backward

        def spoiled(*args: Tensor, backward: Callable[..., tuple[Tensor, ...]] = backward) -> tuple[Tensor | None, ...]:
            return tuple(None if g is None else 1.001 * g for g in backward(*args))

        monkeypatch.setattr(kind, "backward", staticmethod(spoiled))
    with pytest.raises(AssertionError):
        test_it_is_torch_s_own_function_with_its_derivatives(name)


def test_functions_of_other_modules_are_replaced_too() -> None:
    called = set()
    with pytest.MonkeyPatch.context() as patch:
        for function in list(CHEAP):
            patch.setitem(CHEAP, function, lambda *a, f=function, **k: called.add(f) or f(*a, **k))
        with CheapSecondBackward():
            model = nn.Sequential(nn.BatchNorm1d(3), nn.ReLU(), nn.GELU(), nn.SiLU(), nn.LayerNorm(3)).eval()
            model(torch.randn(2, 3))
    assert called >= set(CHEAP) - {torch.relu}


@pytest.mark.parametrize("name", ["gelu", "silu", "layer norm", "batch norm", "relu"])
def test_the_output_may_be_changed_in_place(name: str) -> None:
    layer, shape = LAYERS[name]
    if name == "relu":  # torch's own does not allow it
        truth = twice(lambda x, w, b: layer(x, w, b) * 3 + w, shape)
    else:
        truth = twice(lambda x, w, b: layer(x, w, b).mul_(3).add_(w), shape)
    with CheapSecondBackward():
        found = twice(lambda x, w, b: layer(x, w, b).mul_(3).add_(w), shape)
    assert all(torch.allclose(a, b) for a, b in zip(found, truth, strict=True))


def test_checkpointed_layers_are_left_alone() -> None:
    def layer(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return checkpoint(lambda x: functional.gelu(functional.layer_norm(x, (3,), w, b)), x, use_reentrant=False)

    truth = twice(layer, (5, 3))
    generator = torch.Generator().manual_seed(0)
    points = [torch.randn(s, generator=generator, dtype=torch.float64).requires_grad_() for s in ((5, 3), (3,), (3,))]
    with CheapSecondBackward():
        y = layer(*points)
        c = torch.randn(5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        first = torch.autograd.grad(torch.sin(y * c).sum(), points, create_graph=True)
    torch.autograd.grad(first, points, [torch.ones_like(p) for p in points])
    assert torch.equal(y, truth[0])


def test_what_is_done_in_place_is_done_in_place() -> None:
    for function in (functional.relu, functional.silu):
        x, y = torch.linspace(-1, 1, 5), torch.linspace(-1, 1, 5)
        with CheapSecondBackward():
            function(x, inplace=True)
        assert torch.equal(x, function(y))


@pytest.mark.parametrize("worst", [torch.inf, -torch.inf, torch.nan])
def test_relu_takes_what_is_not_finite_as_torch_does(worst: float) -> None:
    x = torch.tensor([worst, -1.0, 0.0, 2.0])
    with CheapSecondBackward():
        y = functional.relu(input=x)
    assert torch.allclose(y, x.relu(), equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_low_precision(dtype: torch.dtype) -> None:
    model = nn.Sequential(nn.Linear(8, 6), nn.LayerNorm(6), nn.GELU(), nn.Linear(6, 3), nn.ReLU()).to(dtype)
    x = torch.randn(4, 8, dtype=dtype)
    with CheapSecondBackward():
        y = model(x)
    assert y.dtype == dtype
    assert torch.allclose(y, model(x))
