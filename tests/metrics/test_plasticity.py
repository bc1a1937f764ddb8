"""Dormant and cloned units, feature rank, activation patterns: by brute force, and what an expansion does to them."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from mmbench import Estimate, expand, measure
from mmbench.data.base import InputShape
from mmbench.errors import ScoreError, UndefinedError
from mmbench.models.base import MODELS
from mmbench.models.mlp import MLP
from mmbench.testing.networks import SHAPE, images, network


def score(model: nn.Module, metric: str, count: int = 40, **options: object) -> Estimate:
    data = images(count, next(model.parameters()).dtype)
    return measure(model, (data.images, data.labels), metric, **options)


def hidden(model: nn.Module, count: int = 40) -> list[torch.Tensor]:
    """The activations of an MLP, by hand."""
    x, found = images(count, torch.float64).images.flatten(1), []
    for layer in [module for module in model.modules() if isinstance(module, nn.Linear)][:-1]:
        x = (x @ layer.weight.T + layer.bias).relu()
        found.append(x.detach())
    return found


def mlp(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return MLP(hidden=(40, 30)).build(SHAPE).double()


@pytest.mark.parametrize("tau", [0.0, 0.1, 0.5])
def test_dormant_units_are_those_below_the_mean_of_their_layer(tau: float) -> None:
    model = mlp()
    with torch.no_grad():
        model.get_parameter("fc1.weight")[:7] = 0
        model.get_parameter("fc1.bias")[:7] = -1
    count = 0
    for layer in hidden(model):
        size = layer.abs().mean(0)
        count += sum(float(s) <= tau * float(size.sum()) / len(size) for s in size)
    assert count >= 7
    assert score(model, "dormant_units", tau=tau).value == count / 70


@pytest.mark.parametrize("factor", [1.5, 2.0])
def test_copies_are_clones_and_nothing_else_is(factor: float) -> None:
    model = mlp()
    assert score(model, "cloned_units").value == 0
    copies = expand(model, "net2wider", axis="hidden", factor=factor, seed=1)
    assert score(copies, "cloned_units").value == pytest.approx(1 - 1 / factor, abs=0.02)
    padded = expand(model, "zero_pad", factor=factor)
    assert score(padded, "cloned_units").value == 0
    for metric in ("feature_rank", "swap"):
        assert score(copies, metric).value == score(model, metric).value


def test_units_of_a_convolution_are_its_channels() -> None:
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 5), nn.ReLU(), nn.Linear(5, 3))
    with torch.no_grad():
        model[0].weight[1] = model[0].weight[0]
        model[0].bias[1] = model[0].bias[0]
        model[0].weight[2:4] = 0
        model[0].bias[2:4] = -1
    model.double()
    assert score(model, "cloned_units").value * 11 == pytest.approx(1)
    assert score(model, "dormant_units", tau=1e-9).value * 11 == pytest.approx(2)


def test_the_feature_rank_is_that_of_the_singular_values() -> None:
    model = mlp()
    features = hidden(model)[-1].numpy()
    values = np.linalg.svd(features, compute_uv=False)
    for delta in (0.01, 0.3):
        rank = next(k for k in range(1, 31) if values[:k].sum() >= (1 - delta) * values.sum())
        estimate = score(model, "feature_rank", delta=delta)
        assert estimate.value == rank
    assert estimate.details["above"] == (values / 40**0.5 > 0.01).sum()
    collapsed = copy.deepcopy(model)
    with torch.no_grad():
        collapsed.get_parameter("fc2.weight")[:] = collapsed.get_parameter("fc2.weight")[:1].clone()
        collapsed.get_parameter("fc2.bias").fill_(10.0)
    assert score(collapsed, "feature_rank").value <= 2
    for parameter in (collapsed.get_parameter("fc2.weight"), collapsed.get_parameter("fc2.bias")):
        nn.init.zeros_(parameter)
    with pytest.raises(ScoreError, match="dead"):
        score(collapsed, "feature_rank")


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 3)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return 2 * self.head(pixels.flatten(1))


@pytest.mark.parametrize("metric", ["feature_rank", "relative_flatness"])
def test_a_network_that_does_not_end_in_a_linear_layer_is_refused(metric: str) -> None:
    with pytest.raises(UndefinedError, match="not the output of a linear layer"):
        score(Scaled(), metric)


@pytest.mark.parametrize("metric", ["dormant_units", "cloned_units", "swap"])
def test_a_network_without_activations_is_refused(metric: str) -> None:
    with pytest.raises(UndefinedError, match="no activation module"):
        score(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), metric)


@pytest.mark.parametrize("count", [3, 8, 20])
def test_swap_counts_different_patterns(count: int) -> None:
    model = mlp()
    patterns = {tuple((column > 0).tolist()) for layer in hidden(model, count) for column in layer.T}
    assert 1 < len(patterns) <= min(70, 2**count)
    assert score(model, "swap", count).value == len(patterns)


@pytest.mark.parametrize("family", MODELS.names())
def test_every_family_has_units(family: str) -> None:
    model = network(family, torch.float64)
    units = score(model, "dormant_units").details["units"]
    assert units == score(model, "cloned_units").details["units"] > 3
    large = expand(model, "net2wider", factor=2.0) if family != "convnext" else model
    assert score(large, "dormant_units").details["units"] >= units


def test_an_image_size_does_not_change_the_number_of_units() -> None:
    model = MODELS.create({"name": "cnn"}).build(InputShape(1, 8, 3))
    assert score(model, "swap").details["units"] > score(model, "dormant_units").details["units"]
