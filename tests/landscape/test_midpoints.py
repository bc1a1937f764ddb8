"""Losses between a network and its permuted selves: against mixed weights, closed forms and mutants."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch
from torch import nn

from mmbench.data.base import Split
from mmbench.landscape import midpoints, mixed, surface
from mmbench.landscape.midpoints import Lines
from mmbench.landscape.permutations import layers, orders, table_of
from mmbench.models.base import MODELS
from mmbench.models.table import Axis, Group, Table, fixed, into, out
from tests.landscape.conftest import problem

FAMILIES = MODELS.names()


def square(logits, labels):
    """Half the squared distance to the one-hot label: a quadratic loss."""
    return 0.5 * (logits - nn.functional.one_hot(labels, logits.shape[1])).square().sum(1)


def linear_network(units=5, pixels=7):
    """W2 W1 x, without a non-linearity, so that the loss `square` is known on the line."""
    torch.manual_seed(2)
    layers = {"fc1": nn.Linear(pixels, units, bias=False), "head": nn.Linear(units, 3, bias=False)}
    model = nn.Sequential()
    for name, layer in layers.items():
        model.add_module(name, layer)
    table = Table({"fc1": Group(units)})
    table.linear("fc1", out("fc1"), fixed(pixels), bias=False)
    table.linear("head", fixed(3), into("fc1"), bias=False)
    return model.double(), Split(torch.randn(11, pixels).double(), torch.arange(11) % 3), table


def convolutional():
    """Two convolutions, a pool, two linear layers, as the paper's network, and its table."""
    torch.manual_seed(3)
    model = nn.Sequential()
    parts = {
        "conv1": nn.Conv2d(1, 4, 3, padding=1), "act1": nn.ReLU(), "conv2": nn.Conv2d(4, 5, 3, padding=1),
        "act2": nn.ReLU(), "pool": nn.MaxPool2d(2), "flatten": nn.Flatten(), "fc1": nn.Linear(80, 6),
        "act3": nn.ReLU(), "head": nn.Linear(6, 3),
    }  # fmt: skip
    for name, part in parts.items():
        model.add_module(name, part)
    table = Table({"conv1": Group(4), "conv2": Group(5), "fc1": Group(6)})
    table.linear("conv1", out("conv1"), fixed(1), fixed(3), fixed(3))
    table.linear("conv2", out("conv2"), into("conv1"), fixed(3), fixed(3))
    table.linear("fc1", out("fc1"), Axis("in", ("conv2", 16)))
    table.linear("head", fixed(3), into("fc1"))
    return model.double().eval(), Split(torch.randn(9, 1, 8, 8).double(), torch.arange(9) % 3), table


def some(size, count=6):
    return orders(size, count, "chain", "log2", torch.Generator().manual_seed(1))


@pytest.mark.parametrize("statistics", ["keep", "recompute", "fold"])
@pytest.mark.parametrize("family", FAMILIES)
def test_mixed_activations_and_mixed_weights_agree(family, statistics):
    model, data = problem(family)
    table, alphas = table_of(model), torch.tensor([0.5, 0.5, 0.5, 0.0, 1.0, 0.3], dtype=torch.float64)
    quick = 0
    for group in layers(table):
        walk = some(table.groups[group].size)
        fast, slow = (Lines(model, data, group, statistics, fast=way) for way in (True, False))
        quick += fast.fast is not None
        assert slow.fast is None
        torch.testing.assert_close(fast.losses(walk, alphas), slow.losses(walk, alphas), rtol=0, atol=1e-10)
    assert quick >= len(layers(table)) // 2, "inner groups go the fast way"


@pytest.mark.parametrize("group", ["conv1", "conv2", "fc1"])
def test_they_agree_on_a_plain_convolutional_network(group):
    model, data, table = convolutional()
    walk = some(table.groups[group].size)
    fast, slow = (Lines(model, data, group, fast=way, table=table) for way in (True, False))
    assert fast.fast is not None
    torch.testing.assert_close(fast.losses(walk), slow.losses(walk), rtol=0, atol=1e-10)


@pytest.mark.parametrize("chunk", [2, 4, 64])
@pytest.mark.parametrize("family", ["mlp", "resnet"])
def test_many_nodes_in_a_pass_or_few_images_of_one_node_give_the_same(family, chunk, monkeypatch):
    model, data = problem(family)
    group = layers(table_of(model))[0 if family == "mlp" else 1]
    walk = some(table_of(model).groups[group].size, 7)
    whole = Lines(model, data, group).losses(walk)
    monkeypatch.setattr(surface, "CHUNK", chunk)
    torch.testing.assert_close(Lines(model, data, group).losses(walk), whole, rtol=1e-12, atol=1e-13)


def test_the_network_and_its_copy_outside_the_lines_stay_as_they_were():
    model, data = problem("resnet")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    lines = Lines(model, data, "stages.0.0.1")
    lines.losses(some(2))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any("forward" in vars(module) for module in model.modules())
    with torch.no_grad():
        torch.testing.assert_close(lines.model(data.images), model(data.images), rtol=0, atol=0)


def test_the_barriers_of_a_linear_network_have_a_closed_form():
    model, data, table = linear_network()
    first, second = model.fc1.weight.detach(), model.head.weight.detach()
    walk = some(5, 8)
    targets = nn.functional.one_hot(data.labels, 3).double()
    expected = []
    for order in walk:
        p = torch.eye(5, dtype=torch.float64)[order]
        # (W2 + W2 P')(W1 + P W1) / 4 = W2 W1 + W2 (P + P' - 2 I) W1 / 4
        change = second @ (p + p.T - 2 * torch.eye(5)) @ first / 4 @ data.images.T
        residual = second @ first @ data.images.T - targets.T
        expected.append(float(((residual * change).sum(0) + 0.5 * change.square().sum(0)).mean().abs()))
    for fast in (True, False):
        lines = Lines(model, data, "fc1", loss=square, table=table, fast=fast)
        torch.testing.assert_close(lines.barriers(walk), torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=0)


def test_the_supremum_of_a_linear_network_is_found():
    """On the line, the loss is a polynomial of degree 4 in a (1 - a); a dense grid finds its extreme."""
    model, data, table = linear_network()
    lines, walk = Lines(model, data, "fc1", loss=square, table=table), some(5, 8)
    start = lines.losses(torch.arange(5)[None])
    dense = torch.stack([(lines.losses(walk, a / 400) - start).abs() for a in range(401)]).max(0).values
    found = lines.barriers(walk, alphas=5)
    torch.testing.assert_close(found, dense, rtol=1e-4, atol=0)
    assert (found >= lines.barriers(walk)).all()
    assert (found > 1.001 * lines.barriers(walk)).any(), "somewhere the midpoint is not the highest"


def test_the_identity_and_clones_have_no_barrier():
    model, data = problem("mlp")
    with torch.no_grad():  # every unit doubled
        model.fc1.weight[2:], model.fc1.bias[2:] = model.fc1.weight[:2].clone(), model.fc1.bias[:2].clone()
    lines = Lines(model, data, "fc1")
    free = [[0, 1, 2, 3], [2, 1, 0, 3], [0, 3, 2, 1], [2, 3, 0, 1]]
    barriers = lines.barriers(torch.tensor([list(p) for p in permutations(range(4))]))
    at = {order: float(b) for order, b in zip(permutations(range(4)), barriers, strict=True)}
    assert {order for order, b in at.items() if b == 0} == set(map(tuple, free))


def test_dead_units_have_no_barrier_and_rounding_counts_as_none():
    model, data = problem("mlp")
    with torch.no_grad():
        model.fc1.bias[:2] = -100
    model, data = model.float(), Split(data.images.float(), data.labels)
    lines = Lines(model, data, "fc1")
    assert lines.barriers(torch.tensor([[1, 0, 2, 3], [0, 1, 3, 2]])).gt(0).tolist() == [False, True]
    assert 0 < lines.rounding() < 1e-4


class Centred(nn.Module):
    """Subtracts the mean of the batch, so that nodes in one pass would see each other."""

    def __init__(self):
        super().__init__()
        self.fc1, self.head = (getattr(linear_network()[0], name) for name in ("fc1", "head"))

    def forward(self, pixels):
        hidden = self.fc1(pixels).relu()
        return self.head(hidden - hidden.mean(0))


def test_mixed_activations_are_not_trusted_where_they_disagree():
    _, data, table = linear_network()
    lines, slow = (Lines(Centred(), data, "fc1", table=table, fast=way) for way in (True, False))
    assert lines.fast is None
    torch.testing.assert_close(lines.losses(some(5)), slow.losses(some(5)), rtol=0, atol=0)


def rows_only(model, table, group, order, alpha):
    moved = {}
    for name, tensor in model.state_dict().items():
        if table.tensors[name][0].groups == [group]:
            moved[name] = torch.lerp(tensor, tensor[order], alpha)
    return moved


def test_permuting_rows_only_is_seen(monkeypatch):
    """A mutant: the columns of the outgoing weights stay, so P theta is another function."""
    monkeypatch.setattr(midpoints, "towards", rows_only)
    monkeypatch.setattr(mixed.Mixed, "_read", lambda self, original, h: original(h))
    with pytest.raises(AssertionError):
        test_the_barriers_of_a_linear_network_have_a_closed_form()
    with pytest.raises(AssertionError):
        test_the_far_end_has_the_loss_of_the_start()


def test_the_far_end_has_the_loss_of_the_start():
    model, data = problem("mlp")
    lines, walk = Lines(model, data, "fc1"), some(4)
    torch.testing.assert_close(lines.losses(walk, 1.0), lines.losses(walk, 0.0), rtol=1e-12, atol=0)


def test_a_missing_absolute_value_is_seen(monkeypatch):
    """A mutant: barriers below the chord would be negative, so the smallest of all."""
    monkeypatch.setattr(Lines, "_heights", lambda self, walk, start, at: self.losses(walk, at) - start)
    with pytest.raises(AssertionError):
        test_the_barriers_of_a_linear_network_have_a_closed_form()
