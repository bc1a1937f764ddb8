"""The operators that look at data: `gradmax` finds the largest gradient, `ligo` a lower loss."""

import copy

import pytest
import torch
from torch.nn.functional import cross_entropy

from mmbench.expansions.apply import Expander, expand
from mmbench.testing.cells import Cell, examples, train
from mmbench.testing.models import NETWORKS, network
from tests.expansions.cells import DEFAULTS

HIDDEN = [
    ("mlp", "fc1", "fc2"),
    ("mlp", "fc2", "head"),
    ("vit", "blocks.1.mlp.fc1", "blocks.1.mlp.fc2"),
    ("vit with options", "blocks.0.mlp.fc1", "blocks.0.mlp.fc2"),
    ("mixer", "blocks.0.mlp_tokens.fc1", "blocks.0.mlp_tokens.fc2"),
    ("mixer", "blocks.0.mlp_channels.fc1", "blocks.0.mlp_channels.fc2"),
    ("convnext", "stages.1.blocks.0.mlp.fc1", "stages.1.blocks.0.mlp.fc2"),
    ("convnext without layer scale", "stages.1.blocks.1.mlp.fc1", "stages.1.blocks.1.mlp.fc2"),
]
"""Layers that write and read hidden units."""


def loss_on(model, data):
    return cross_entropy(model(data[0]), data[1])


def pull(model, producer, new):
    """The norm of the loss's gradient at the incoming weights of each of the last `new` units."""
    (gradient,) = torch.autograd.grad(loss_on(model, examples()), [model.get_submodule(producer).weight])
    return gradient[-new:].flatten(1).norm(dim=1)


def redirected(model, consumer, outgoing):
    """The model with other outgoing weights of the last units, the function kept."""
    model = copy.deepcopy(model)
    layer, (rows, new) = model.get_submodule(consumer), outgoing.shape
    with torch.no_grad():
        columns = layer.weight[:rows, -new:]
        if isinstance(model, torch.nn.Sequential):  # the MLP's new units have an output of one, which the bias takes
            layer.bias[:rows] += columns.sum(1) - outgoing.sum(1)
        columns.copy_(outgoing.view_as(columns))
    return model


@pytest.mark.parametrize(("name", "producer", "consumer"), HIDDEN, ids=str)
def test_no_other_outgoing_weights_pull_new_units_of_gradmax_as_much(name, producer, consumer):
    base = network(NETWORKS[name])
    large = Cell("gradmax", {"factor": 1.3}, name).expand(base)
    small = base.get_submodule(consumer).weight.detach().flatten(1)
    (rows, units), width = small.shape, large.get_submodule(producer).weight.shape[0]
    new = width - units
    assert not large.get_submodule(producer).weight[units:].any()
    outgoing = large.get_submodule(consumer).weight.detach().flatten(1)[:rows, units:]
    length = small.norm(dim=0).mean()
    assert new >= 1
    assert torch.allclose(outgoing.T @ outgoing, length**2 * torch.eye(new, dtype=length.dtype)), "orthogonal"
    best = pull(large, producer, new)
    assert best.min() > 0
    assert torch.equal(best, best.sort(descending=True).values)
    assert torch.allclose(pull(redirected(large, consumer, outgoing), producer, new), best)
    generator = torch.Generator().manual_seed(2)
    for _ in range(10):
        other = torch.linalg.qr(torch.randn(rows, new, generator=generator, dtype=length.dtype)).Q * length
        pulls = pull(redirected(large, consumer, other), producer, new)
        assert pulls.max() <= best[0] * (1 + 1e-9), "one vector"
        assert pulls.square().sum() <= best.square().sum() * (1 + 1e-9), "all together"
        assert new == rows or pulls.square().sum() < 0.999 * best.square().sum(), "the comparison is vacuous"


@pytest.mark.parametrize("cell", [c for c in DEFAULTS if c.operator == "gradmax"], ids=str)
def test_training_goes_on_from_gradmax(cell):
    losses = [*train(cell.expand(), torch.optim.AdamW, steps=15, lr=1e-3)]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    "cell",
    [
        *(cell for cell in DEFAULTS if cell.operator == "ligo"),
        *(Cell("ligo", {"axis": "depth"}, name) for name in ("mlp of equal layers", "vit")),
        Cell("ligo", {"axis": "heads"}, "vit"),
        Cell("ligo", {"axis": "hidden"}, "resnet"),
    ],
    ids=str,
)
def test_what_ligo_learns_lowers_the_loss(cell):
    base = cell.base()
    losses = []
    for steps in (1, 20):
        large = cell.expand(base, learning_steps=steps, learning_rate=0.02).train()
        with torch.no_grad():
            losses.append(float(loss_on(large, examples())))
    assert losses[1] < losses[0] - 0.05, losses


def test_what_ligo_learned_from_the_first_network_is_used_on_the_next():
    """It is linear in the weights: a network of twice the weights becomes one of twice the weights."""
    base = network(NETWORKS["mlp"])
    twice = copy.deepcopy(base)
    with torch.no_grad():
        for parameter in twice.parameters():
            parameter *= 2
    options = {"data": examples(), "factor": 2.0, "learning_steps": 5, "learning_rate": 0.05}
    grow = Expander(base, "ligo", **options)
    later, first = grow(twice), grow(base)
    assert all(torch.allclose(a, 2 * b) for a, b in zip(later.parameters(), first.parameters(), strict=True))
    alone = expand(base, "ligo", **options)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), alone.parameters(), strict=True))
    anew = expand(twice, "ligo", **options)
    assert not any(
        torch.allclose(a, b) for a, b in zip(anew.parameters(), later.parameters(), strict=True) if a.dim() > 1
    )
