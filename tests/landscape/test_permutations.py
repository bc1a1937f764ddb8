"""Permutations of a layer: which layer, which orders, which tensors move, which units are clones."""

from __future__ import annotations

import pytest
import torch
from torch.func import functional_call

from mmbench.data.base import InputShape
from mmbench.errors import UndefinedError
from mmbench.landscape.permutations import choose, clones, layers, orders, table_of, towards
from mmbench.models.base import MODELS
from mmbench.testing.networks import network
from tests.landscape.conftest import problem

FAMILIES = MODELS.names()
SHAPE = InputShape(3, 32, 10)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("pairs", ["log2", 1, 3, "all"])
@pytest.mark.parametrize("walk", ["chain", "independent"])
def test_a_shorter_walk_is_the_start_of_a_longer_one(walk, pairs):
    long = orders(9, 40, walk, pairs, seeded())
    assert torch.equal(orders(9, 13, walk, pairs, seeded()), long[:13])
    assert torch.equal(long.sort(1).values, torch.arange(9).expand(40, 9))


@pytest.mark.parametrize(("size", "pairs", "most"), [(16, "log2", 8), (17, "log2", 10), (16, 1, 2)])
def test_a_step_moves_at_most_two_units_per_pair(size, pairs, most):
    alone = orders(size, 200, "independent", pairs, seeded())
    moved = (alone != torch.arange(size)).sum(1)
    assert moved.max() == most
    chain = orders(size, 200, "chain", pairs, seeded())
    assert ((chain[1:] != chain[:-1]).sum(1) <= most).all()
    assert (chain[50:] != torch.arange(size)).sum(1).double().mean() > size - 2  # a uniform permutation keeps one


def test_every_permutation_of_four_units_is_equally_likely_in_the_end():
    seen = orders(4, 6000, "independent", "all", seeded())
    _, counts = seen.unique(dim=0, return_counts=True)
    assert len(counts) == 24
    assert float(((counts - 250).square() / 250).sum()) < 49.7  # chi square with 23 degrees of freedom, p = 0.001


@pytest.mark.parametrize("family", FAMILIES)
def test_both_ends_of_the_line_have_the_same_function(family):
    model, data = problem(family)
    table = table_of(model)
    for group, found in table.groups.items():
        order = torch.arange(found.size).roll(1)
        with torch.no_grad():
            for alpha in (0.0, 1.0):
                moved = functional_call(model, towards(model, table, group, order, alpha), (data.images,))
                torch.testing.assert_close(moved, model(data.images), rtol=1e-9, atol=1e-9)


def test_the_first_layer_is_that_of_the_paper():
    def first(options, layer="first"):
        return choose(MODELS.create(options).table(SHAPE), layer)

    assert first({"name": "mlp", "hidden": (4, 8)}) == ["fc1"]
    assert first({"name": "mlp", "hidden": (3, 8)}) == ["fc2"]
    assert first({"name": "mlp", "hidden": (4, 8)}, "each") == ["fc1", "fc2"]
    assert first({"name": "resnet"}) == ["stage0"], "the channels of the first convolution"
    assert first({"name": "resnet"}, "inner") == ["stages.0.0.1"]
    assert first({"name": "vit", "heads": 4}) == ["blocks.0.hidden"], "the feed-forward layer of the first block"
    assert first({"name": "resnet"}, "stage2") == ["stage2"]


def test_layers_come_in_the_order_of_the_forward_pass():
    table = MODELS.create({"name": "resnet"}).table(SHAPE)
    assert layers(table) == ["stage0", "stages.0.0.1", "stages.1.0.1", "stage1", "stages.2.0.1", "stage2"]


@pytest.mark.parametrize("layer", ["first", "inner", "each", "fc1"])
def test_three_units_are_too_few(layer):
    table = MODELS.create({"name": "mlp", "hidden": (3, 2)}).table(SHAPE)
    with pytest.raises(UndefinedError, match=r"at least 4"):
        choose(table, layer)


def test_an_unknown_layer_is_refused_with_those_that_there_are():
    with pytest.raises(UndefinedError, match=r"metric\.layer = fc9.*fc1, fc2"):
        choose(table_of(network("mlp")), "fc9")


def test_clones_are_units_with_equal_incoming_weights_and_norms():
    model = network("resnet", torch.float64)
    table = table_of(model)
    group, norm = "stages.1.0.1", model.stages[1][0].bn1
    assert clones(model, table, group) == 0
    with torch.no_grad():
        for tensor in (model.stages[1][0].conv1.weight, norm.weight, norm.bias, norm.running_mean, norm.running_var):
            tensor[3] = tensor[0]
    assert clones(model, table, group) == 2
    norm.running_var[3] += 1
    assert clones(model, table, group) == 0


def test_hooks_do_not_hide_the_family():
    model = network("mlp")
    model.fc1.register_forward_hook(lambda *_: None)
    assert table_of(model).groups.keys() == {"fc1", "fc2"}
    assert model.fc1._forward_hooks
