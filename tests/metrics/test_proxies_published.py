"""The proxies as their published code computes them, written out directly: one batch, training mode, kernels only."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mmbench import measure
from mmbench.errors import UndefinedError
from mmbench.landscape import surface
from mmbench.models.base import MODELS
from mmbench.testing.networks import images

from .test_proxies import LAYERS, live

DATA = images(12, torch.float64)
ON_A_BATCH = ("grad_norm", "snip", "grasp", "jacob_cov")


def published(name: str, model: nn.Module) -> float:
    """The score of Abdelfattah et al.'s definitions, one layer after another, with autograd alone."""
    model = copy.deepcopy(model).train()
    pixels = DATA.images.clone().requires_grad_()
    logits = model(pixels)
    weights = [layer.weight for layer in model.modules() if isinstance(layer, LAYERS)]
    if name == "jacob_cov":
        (jacobian,) = torch.autograd.grad(logits, pixels, torch.ones_like(logits))
        eigenvalues = torch.linalg.eigvalsh(torch.corrcoef(jacobian.flatten(1)))
        return -(torch.log(eigenvalues + 1e-5) + 1 / (eigenvalues + 1e-5)).sum().item()
    slopes = torch.autograd.grad(cross_entropy(logits, DATA.labels), weights, create_graph=True, materialize_grads=True)
    if name == "grad_norm":
        return sum(slope.norm() for slope in slopes).item()
    if name == "snip":
        return sum((slope * weight).abs().sum() for slope, weight in zip(slopes, weights, strict=True)).item()
    flow = sum((slope * slope.detach()).sum() for slope in slopes)
    products = torch.autograd.grad(flow, weights, materialize_grads=True)
    return -sum((product * weight).sum() for product, weight in zip(products, weights, strict=True)).item()


def score(name: str, model: nn.Module, **options: object) -> float:
    norm = {"norm": "layers"} if name == "grad_norm" else {}
    return measure(model, (DATA.images, DATA.labels), name, **norm, **options).value


@pytest.mark.parametrize("family", ["mlp", "resnet"])
@pytest.mark.parametrize("name", ON_A_BATCH)
def test_with_the_batchs_statistics_it_is_the_published_score(name: str, family: str, monkeypatch) -> None:
    monkeypatch.setattr(surface, "CHUNK", 5)  # the batch must not be cut into pieces
    model = live(family)
    truth = published(name, model)
    assert score(name, model, batch_norm="batch") == pytest.approx(truth, rel=1e-9)
    alike = score(name, model) == pytest.approx(truth, rel=1e-6)
    assert alike == (family == "mlp"), "running statistics are another network where there are batch norms"


@pytest.mark.parametrize("name", ON_A_BATCH)
def test_running_statistics_stay_as_they_were(name: str) -> None:
    model = live("resnet")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    score(name, model, batch_norm="batch")
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", ON_A_BATCH)
def test_one_image_has_no_statistics(name: str) -> None:
    with pytest.raises(UndefinedError, match=r"metric\.batch_norm.*two images"):
        score(name, live("resnet"), batch_norm="batch", images=1)


def layer_norms(model: nn.Module) -> dict[str, Tensor]:
    """Norms of the gradient by parameter, in evaluation mode."""
    names, every = zip(*model.named_parameters(), strict=True)
    found = torch.autograd.grad(cross_entropy(model(DATA.images), DATA.labels), every, materialize_grads=True)
    return {name: slope.norm() for name, slope in zip(names, found, strict=True)}


@pytest.mark.parametrize("family", MODELS.names())
def test_the_layers_norms_are_added_up(family: str) -> None:
    model = live(family)
    norms = layer_norms(model)
    modules = {f"{name}.weight" for name, layer in model.named_modules() if isinstance(layer, LAYERS)}
    kernels = torch.stack([norm for name, norm in norms.items() if name in modules])
    found = score("grad_norm", model)
    assert found == pytest.approx(kernels.sum().item(), rel=1e-9)
    every = torch.stack(list(norms.values()))
    for slip in (kernels.norm(), every.sum(), every.norm()):
        assert found != pytest.approx(slip.item(), rel=1e-6)


def test_layers_without_a_kernel_have_no_norms() -> None:
    class Raw(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.randn(64, 3, generator=torch.Generator().manual_seed(0)).double())

        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1) @ self.table

    with pytest.raises(UndefinedError, match="no linear layer or convolution"):
        score("grad_norm", Raw())
