from __future__ import annotations

import copy

import pytest
import torch
from torch.nn.functional import cross_entropy

from mmbench.landscape import surface as module
from mmbench.landscape.surface import Surface
from mmbench.models.base import MODELS

from .conftest import problem

each_family = pytest.mark.parametrize("family", MODELS.names())


@pytest.mark.parametrize("chunk", [256, 7], ids=["one chunk", "chunks of 7"])
@each_family
def test_loss_and_gradient_are_those_of_the_network(family: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    model, data = problem(family)
    truth = cross_entropy(model(data.images), data.labels)
    slope = torch.cat([g.flatten() for g in torch.autograd.grad(truth, list(model.parameters()))])
    surface = Surface(copy.deepcopy(model), data)
    loss, gradient = surface.loss_and_gradient()
    assert loss == pytest.approx(truth.item(), rel=1e-13)
    assert surface.loss() == pytest.approx(truth.item(), rel=1e-13)
    torch.testing.assert_close(gradient, slope, rtol=1e-11, atol=1e-14)
    assert len(list(surface.chunk_losses())) == -(-20 // chunk)


@each_family
def test_writing_into_the_point_moves_the_model(family: str) -> None:
    model, data = problem(family)
    moved = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in moved.parameters():
            parameter.mul_(1.5)
    surface = Surface(model, data)
    surface.point.mul_(1.5)
    assert surface.loss() == pytest.approx(cross_entropy(moved(data.images), data.labels).item(), rel=1e-12)


@each_family
def test_the_loss_is_deterministic_and_leaves_the_point_alone(family: str) -> None:
    model, data = problem(family)
    surface = Surface(model.train(), data)
    buffers = [buffer.clone() for buffer in model.buffers()]
    point = surface.point.clone()
    assert not model.training
    assert surface.loss() == surface.loss() == surface.loss_and_gradient()[0]
    assert torch.equal(surface.point, point)
    assert all(torch.equal(now, then) for now, then in zip(model.buffers(), buffers, strict=True))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_every_image_counts_by_itself() -> None:
    """In evaluation mode the loss on all images is the mean of the losses on each."""
    model, data = problem("resnet")
    surface = Surface(model, data)
    singles = [Surface(model, type(data)(data.images[i : i + 1], data.labels[i : i + 1])).loss() for i in range(20)]
    assert surface.loss() == pytest.approx(sum(singles) / 20, rel=1e-12)


def test_batch_statistics_are_those_of_all_images_in_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 7)
    model, data = problem("resnet")
    truth = cross_entropy(copy.deepcopy(model).train()(data.images), data.labels).item()
    surface = Surface(model, data, batch_statistics=True)
    assert surface.loss() == pytest.approx(truth, rel=1e-12)
    assert surface.loss() == pytest.approx(truth, rel=1e-12)  # the running ones, changed by the first call, are unused
    assert truth != pytest.approx(cross_entropy(model.eval()(data.images), data.labels).item(), rel=1e-3)


@pytest.mark.parametrize("family", ["mlp", "vit"])
def test_batch_statistics_mean_nothing_without_batch_norm(family: str) -> None:
    model, data = problem(family)
    assert Surface(model, data, batch_statistics=True).loss() == Surface(model, data).loss()
