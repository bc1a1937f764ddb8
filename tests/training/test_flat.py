from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from mmbench.data.base import InputShape
from mmbench.models.base import MODELS
from mmbench.training.flat import Flat
from mmbench.training.loop import memory_format

SMALL = {
    "mlp": {"hidden": (6, 5)},
    "resnet": {"channels": (3, 4), "layers": (1, 1)},
    "vit": {"embed_dim": 6, "heads": 2, "hidden": 8, "layers": 1, "patch_size": 4},
    "mixer": {"embed_dim": 6, "token_hidden": 5, "channel_hidden": 8, "layers": 1, "patch_size": 4},
    "convnext": {"channels": (3, 4, 5, 6), "layers": (1, 1, 1, 1), "kernel_size": 3},
}
LAYOUTS = [torch.contiguous_format, torch.channels_last]

each_family = pytest.mark.parametrize("family", MODELS.names())
each_layout = pytest.mark.parametrize("layout", LAYOUTS, ids=["contiguous", "channels_last"])


def network(family: str, layout: torch.memory_format = torch.contiguous_format) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MODELS.create({"name": family, **SMALL.get(family, {})}).build(InputShape(1, 8, 3)).eval()
    return model.to(memory_format=layout)


@each_layout
@each_family
def test_the_model_works_on_as_before(family: str, layout: torch.memory_format) -> None:
    model = network(family, layout)
    before, strides = copy.deepcopy(model.state_dict()), [p.stride() for p in model.parameters()]
    identities = [id(p) for p in model.parameters()]
    images = torch.randn(4, 1, 8, 8)
    logits = model(images)
    flat = Flat(model)
    assert torch.equal(model(images), logits)
    assert [p.stride() for p in model.parameters()] == strides
    assert [id(p) for p in model.parameters()] == identities
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert flat.vector.shape == (sum(p.numel() for p in model.parameters()),)
    assert not flat.vector.requires_grad
    assert all(p.requires_grad and p.is_leaf for p in model.parameters())


@each_layout
@each_family
def test_vector_and_parameters_are_one_memory(family: str, layout: torch.memory_format) -> None:
    """Every entry of the vector is one entry of one parameter, and each changes with the other."""
    model = network(family, layout)
    flat = Flat(model)
    flat.vector.copy_(torch.arange(len(flat.vector)))
    entries = torch.cat([p.detach().flatten() for p in model.parameters()])
    assert torch.equal(entries.sort().values, torch.arange(len(flat.vector)).float())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1000)
    assert torch.equal(flat.vector, torch.arange(len(flat.vector)) + 1000.0)


@each_layout
@each_family
def test_views_and_join_are_inverse(family: str, layout: torch.memory_format) -> None:
    model = network(family, layout)
    flat = Flat(model)
    vector = torch.randn(len(flat.vector))
    views = flat.views(vector)
    assert [v.shape for v in views] == [p.shape for p in model.parameters()]
    assert [v.stride() for v in views] == [p.stride() for p in model.parameters()]
    assert torch.equal(flat.join(views), vector)
    assert torch.equal(flat.join([v.clone(memory_format=torch.contiguous_format) for v in views]), vector)
    assert torch.equal(flat.join([p.detach() for p in model.parameters()]), flat.vector)
    views[0].fill_(7.0)
    assert (vector == 7.0).sum() == views[0].numel()


def test_a_row_of_a_matrix_is_a_vector_too() -> None:
    """Its memory does not begin where the matrix's does."""
    flat = Flat(network("mlp"))
    rows = torch.randn(3, len(flat.vector))
    for row in rows:
        assert torch.equal(flat.join(flat.views(row)), row)


@each_layout
@each_family
def test_backward_accumulates_into_the_gradient(family: str, layout: torch.memory_format) -> None:
    twin, model = network(family).double(), network(family, layout).double()
    images = torch.randn(4, 1, 8, 8, dtype=torch.float64)
    flat = Flat(model)
    assert flat.gradient is flat.gradient
    assert not flat.gradient.any()
    for times in (1, 2):
        model(images).square().sum().backward()
        twin.zero_grad()
        twin(images).square().sum().backward()
        for view, other in zip(flat.views(flat.gradient), twin.parameters(), strict=True):
            torch.testing.assert_close(view, times * other.grad, rtol=1e-10, atol=1e-12)
    flat.gradient.zero_()
    assert not any(p.grad.any() for p in model.parameters())


def test_frozen_parameters_stay_out() -> None:
    model = network("mlp")
    model.fc1.requires_grad_(False)
    weight = model.fc1.weight.data_ptr()
    flat = Flat(model)
    assert len(flat.vector) == sum(p.numel() for p in model.parameters()) - 64 * 6 - 6
    flat.vector.zero_()
    assert model.fc1.weight.any()
    assert model.fc1.weight.data_ptr() == weight
    assert not model.head.weight.any()


def test_tied_parameters_count_once() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    flat = Flat(model)
    assert len(flat.vector) == 16 + 4 + 4
    flat.vector.fill_(2.0)
    assert model[1].weight is model[0].weight
    assert (model[1].weight == 2).all()


def test_a_copy_of_the_model_is_independent() -> None:
    model = network("resnet", torch.channels_last)
    flat = Flat(model)
    twin = copy.deepcopy(model)
    flat.vector.zero_()
    assert all(p.any() for name, p in twin.named_parameters() if name.endswith("conv1.weight"))
    assert twin.conv1.weight.stride() == model.conv1.weight.stride()


def test_a_model_can_be_flattened_again() -> None:
    model = network("vit")
    first = Flat(model)
    values = first.vector.clone()
    second = Flat(model)
    assert torch.equal(second.vector, values)
    first.vector.zero_()
    assert all(torch.equal(v, p) for v, p in zip(second.views(values), model.parameters(), strict=True))


def test_it_takes_the_models_dtype() -> None:
    assert Flat(network("mlp").double()).vector.dtype == torch.float64


def test_only_convolutional_networks_are_channels_last() -> None:
    """A vision transformer has one convolution, which cuts the patches and gains nothing."""
    formats = {family: memory_format(network(family)) for family in SMALL}
    plain, channels_last = LAYOUTS
    expected = {"mlp": plain, "resnet": channels_last, "vit": plain, "mixer": plain, "convnext": channels_last}
    assert formats == expected
