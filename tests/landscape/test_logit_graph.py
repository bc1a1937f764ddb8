from __future__ import annotations

from collections.abc import Callable

import pytest
import timm
import torch
from torch import nn

from mmbench.data.base import Split
from mmbench.landscape.logit_graph import piecewise_multilinear, smooth
from mmbench.landscape.surface import Surface
from mmbench.models.base import MODELS

from .conftest import problem


class Function(nn.Module):
    """Two linear layers with weights a and b, put together by hand."""

    def __init__(self, function: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.function = function
        self.a, self.b = nn.Linear(64, 64), nn.Linear(64, 64)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.function(images.flatten(1), self.a, self.b)


LINEAR = {
    "residual": lambda x, a, b: x + b(torch.relu(a(x))),
    "a gate": lambda x, a, b: a(x) * torch.relu(b(x)),
    "leaky, clipped, pooled": lambda x, a, b: (
        b(nn.functional.leaky_relu(a(x))).clamp(-1, 1) + nn.functional.relu6(a(x))
    ),
    "divided by a number": lambda x, a, b: a(x).abs() / 3 - x / (1 + x.square()),
}
CURVED = {
    "used twice": lambda x, a, b: a(torch.relu(a(x))),
    "a square": lambda x, a, b: a(x) * a(x),
    "a power": lambda x, a, b: a(x).square(),
    "GELU": lambda x, a, b: b(nn.functional.gelu(a(x))),
    "softmax inside": lambda x, a, b: b(a(x).softmax(1)),
    "norm": lambda x, a, b: a(x) / (1 + b(x).abs()),
    "attention of one layer": lambda x, a, b: (a(x)[:, :, None] @ a(x)[:, None]).sum(2),
}


def surface_of(model: nn.Module, side: int = 8, channels: int = 1) -> Surface:
    return Surface(model, Split(torch.randn(4, channels, side, side), torch.arange(4) % 3))


@pytest.mark.parametrize("name", LINEAR)
def test_networks_linear_in_pieces_are_known(name: str) -> None:
    assert piecewise_multilinear(surface_of(Function(LINEAR[name])))


@pytest.mark.parametrize("name", CURVED)
def test_curved_networks_are_known(name: str) -> None:
    assert not piecewise_multilinear(surface_of(Function(CURVED[name])))


@pytest.mark.parametrize("family", MODELS.names())
def test_the_families(family: str) -> None:
    assert piecewise_multilinear(Surface(*problem(family))) == (family in ("mlp", "cnn", "resnet"))


def test_batch_norm_by_the_images_at_hand_is_curved() -> None:
    model, data = problem("resnet")
    assert not piecewise_multilinear(Surface(model, data, batch_statistics=True))


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2_100", "densenet121", "repvgg_a0"])
def test_stock_networks_of_relus(name: str) -> None:
    assert piecewise_multilinear(surface_of(timm.create_model(name, num_classes=3), 32, 3))


@pytest.mark.parametrize("name", ["efficientnet_b0", "convnext_atto", "vit_tiny_patch16_224", "seresnet18"])
def test_stock_networks_that_are_curved(name: str) -> None:
    options = {"img_size": 32} if "vit" in name else {}
    model = timm.create_model(name, num_classes=3, **options)
    assert not piecewise_multilinear(surface_of(model, 32, 3))


@pytest.mark.parametrize("name", ["efficientnet_b0", "convnext_atto", "vit_tiny_patch16_224", "mixer_s32_224"])
def test_stock_networks_that_are_smooth(name: str) -> None:
    side = 224 if "224" in name else 32
    assert smooth(surface_of(timm.create_model(name, num_classes=3), side, 3))


@pytest.mark.parametrize("name", ["resnet18", "seresnet18", "mobilenetv3_small_100"])
def test_stock_networks_with_kinks(name: str) -> None:
    assert not smooth(surface_of(timm.create_model(name, num_classes=3), 32, 3))
