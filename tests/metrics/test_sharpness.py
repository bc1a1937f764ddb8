from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from mmbench import measure
from mmbench.data.base import Split
from mmbench.errors import ConfigError
from mmbench.models.base import MODELS
from mmbench.testing.networks import images, network

from .conftest import Linear


def by_hand(model: nn.Module, data: Split, rho: float) -> float:
    """The rise of the loss on one batch, as written in the paper."""
    start = parameters_to_vector(model.parameters()).detach().clone()
    loss = cross_entropy(model(data.images), data.labels)
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])
    vector_to_parameters(start + rho * gradient / gradient.norm(), model.parameters())
    with torch.no_grad():
        risen = cross_entropy(model(data.images), data.labels)
    vector_to_parameters(start, model.parameters())
    return risen.item() - loss.item()


@pytest.mark.parametrize("family", MODELS.names())
def test_it_is_the_mean_of_the_rises_over_disjoint_batches(family: str) -> None:
    model, data = network(family, torch.float64), images(30, torch.float64)
    estimate = measure(model, (data.images, data.labels), "sharpness", rho=0.2, batch_size=10)
    batches = zip(data.images.split(10), data.labels.split(10), strict=True)
    rises = torch.tensor([by_hand(model, Split(*batch), 0.2) for batch in batches], dtype=torch.float64)
    assert estimate.value == pytest.approx(rises.mean().item(), rel=1e-10)
    assert estimate.stderr == pytest.approx(rises.std().item() / 3**0.5, rel=1e-10)


def test_an_incomplete_last_batch_is_left_out() -> None:
    model, data = network("mlp", torch.float64), images(30, torch.float64)
    whole = measure(model, (data.images[:24], data.labels[:24]), "sharpness", batch_size=12)
    assert measure(model, (data.images, data.labels), "sharpness", batch_size=12).value == whole.value


def test_fewer_images_than_a_batch_are_one_batch() -> None:
    model, data = network("mlp", torch.float64), images(30, torch.float64)
    estimate = measure(model, (data.images, data.labels), "sharpness", rho=0.1, batch_size=64)
    assert estimate.value == pytest.approx(by_hand(model, data, 0.1), rel=1e-10)
    assert estimate.stderr is None


def test_only_the_images_asked_for_are_used() -> None:
    """Of images that are all alike, it makes no difference how many; of different ones it does."""
    model, data = network("mlp", torch.float64), images(30, torch.float64)
    one = data.images[:1].expand(30, -1, -1, -1), data.labels[:1].expand(30)
    first, second = (measure(model, one, "sharpness", images=n, batch_size=n).value for n in (5, 20))
    assert first == pytest.approx(second, rel=1e-10)
    first, second = (measure(model, (data.images, data.labels), "sharpness", images=10, batch_size=10, seed=s).value
                     for s in (0, 1))  # fmt: skip
    assert first != pytest.approx(second, rel=1e-3)


@pytest.mark.parametrize("rho", [1e-3, 0.05, 2.0])
def test_softmax_regression_at_zero_has_a_closed_form(rho: float) -> None:
    """For one image x: g = (1 / C - y) x', and a step of rho along it takes rho ||x|| / sqrt(1 - 1 / C) of margin."""
    image = torch.randn(1, 1, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    margin = rho * image.norm().item() / (1 - 1 / 4) ** 0.5
    truth = math.log(1 + 3 * math.exp(margin)) - math.log(4)
    estimate = measure(Linear(9, 4), (image, torch.tensor([2])), "sharpness", rho=rho)
    assert estimate.value == pytest.approx(truth, rel=1e-9)


@pytest.mark.parametrize("family", MODELS.names())
def test_a_small_ball_sees_the_gradient(family: str) -> None:
    """As rho goes to 0, the rise goes to rho ||g||, with an error of the order of rho^2."""
    model, data = network(family, torch.float64), images(20, torch.float64)
    loss = cross_entropy(model(data.images), data.labels)
    norm = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))]).norm().item()
    errors = []
    for rho in (1e-5, 1e-6):  # so small that no ReLU switches in between
        value = measure(model, (data.images, data.labels), "sharpness", rho=rho, batch_size=20).value
        errors.append(abs(value / rho - norm))
    assert errors[1] < 1e-4 * norm
    assert errors[1] == pytest.approx(errors[0] / 10, rel=0.1)


@pytest.mark.parametrize("margin", [60.0, 1e4], ids=["nearly perfect", "perfect"])
def test_a_perfect_fit_is_flat(margin: float) -> None:
    """At a margin of 60 nats the gradient is about 1e-26, and its square is 0 in float32; at 1e4 it is 0 itself."""
    model = Linear(4, 2).float()
    with torch.no_grad():
        model.head.weight[0], model.head.weight[1] = margin / 8, -margin / 8
    estimate = measure(model, (torch.ones(8, 1, 2, 2), torch.zeros(8, dtype=torch.long)), "sharpness", batch_size=4)
    assert estimate.value == pytest.approx(0, abs=1e-12)


def test_a_batch_is_no_larger_than_the_images() -> None:
    data = images(30)
    with pytest.raises(ConfigError, match=r"metric\.batch_size = 64 must not be larger than metric\.images = 32"):
        measure(network("mlp"), (data.images, data.labels), "sharpness", images=32, batch_size=64)
