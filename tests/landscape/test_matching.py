"""Weight matching: planted permutations are found again, and nothing but the order of channels changes."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import nn

from mmbench import expand
from mmbench.errors import UndefinedError
from mmbench.landscape.matching import _pairs, _table, gathered, match, objective, permuted
from mmbench.landscape.survey import survey
from mmbench.registry import MODELS

from .conftest import SHAPE, problem

each_family = pytest.mark.parametrize("family", MODELS.names())
DEEPER = {"resnet": {"channels": [8, 12], "layers": [3, 3]}, "vit": {"layers": 3, "embed_dim": 16, "heads": 4}}


def planted(model: nn.Module, seed: int, noise: float = 0.0) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """The model with all channels in another order, and that order."""
    generator = torch.Generator().manual_seed(seed)
    order = {name: torch.randperm(group.size, generator=generator) for name, group in _table(model).groups.items()}
    twin = permuted(model, order)
    with torch.no_grad():
        for weight in twin.parameters():
            draw = torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
            weight.add_(draw, alpha=noise * float(weight.square().mean().sqrt()))
    return twin, order


def inverse(order: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: torch.argsort(index) for name, index in order.items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@each_family
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_a_planted_permutation_is_found_again(family: str, noise: float) -> None:
    model, data = problem(family)
    for seed in range(4):
        twin, order = planted(model, seed, noise)
        if not noise:
            assert torch.allclose(twin(data.images), model(data.images), atol=1e-10), "not the same function"
            assert any(not torch.equal(p, q) for p, q in zip(twin.parameters(), model.parameters(), strict=True))
        assert same(match(model, twin, torch.Generator().manual_seed(seed)), inverse(order))


@pytest.mark.parametrize("family", DEEPER)
def test_a_residual_stream_through_many_blocks_is_matched(family: str) -> None:
    torch.manual_seed(0)
    model = MODELS.create({"name": family, **DEEPER[family]}).build(SHAPE).double()
    for seed in range(5):
        twin, order = planted(model, seed)
        assert same(match(model, twin, torch.Generator().manual_seed(seed), starts=1), inverse(order))


@each_family
def test_running_statistics_go_with_their_channels(family: str) -> None:
    model, data = problem(family)
    twin, order = planted(model, 7)
    back = permuted(twin, inverse(order))
    assert all(torch.equal(value, back.state_dict()[name]) for name, value in model.state_dict().items())
    train, again = (copy.deepcopy(network).train()(data.images) for network in (model, twin))
    assert torch.allclose(train, again, atol=1e-9)


def test_it_is_the_best_of_all_permutations() -> None:
    model, _ = problem("mlp")
    other, _ = planted(model, 3, noise=1.5)
    pairs, sizes = _pairs(model, other)
    everything = [
        dict(zip(sizes, map(torch.tensor, orders), strict=True))
        for orders in itertools.product(*(itertools.permutations(range(n)) for n, _ in sizes.values()))
    ]
    assert len(everything) > 100
    best = max(objective(pairs, maps) for maps in everything)
    found = match(model, other, torch.Generator().manual_seed(0), starts=10)
    assert objective(pairs, found) == pytest.approx(best, rel=1e-12)


@each_family
def test_matching_never_leaves_less_than_there_was(family: str) -> None:
    """Two networks that have nothing in common agree more after matching than in the order they came in."""
    model, _ = problem(family)
    other, _ = planted(model, 5, noise=10.0)
    pairs, sizes = _pairs(model, other)
    before = objective(pairs, {name: torch.arange(n) for name, (n, _) in sizes.items()})
    assert objective(pairs, match(model, other, torch.Generator().manual_seed(0))) > before


@each_family
def test_the_barrier_of_a_permuted_copy_goes_with_matching(family: str) -> None:
    model, data = problem(family)
    with torch.no_grad():
        weight, bias = [*model.parameters()][-2:]  # of the classifier
        bias.sub_(model(data.images).mean(0))  # all classes occur
        weight.mul_(50)
        bias.mul_(50)
        data = type(data)(data.images, model(data.images).argmax(1))
    before, after = [], []
    for seed in range(3):
        twin, _ = planted(model, seed, noise=0.01)
        aligned = permuted(twin, match(model, twin, torch.Generator().manual_seed(0)))
        for end, heights in ((twin, before), (aligned, after)):
            heights.append(survey(model, [model, end], data, alphas=5, statistics="keep").cloud.barriers[0, 1])
    assert max(before) > 0.1
    assert max(after) < 0.1 * max(before)


@pytest.mark.parametrize(
    ("family", "operator"),
    [(family, operator) for family in MODELS.names() for operator in ("net2wider", "zero_pad", "hypercloning")
     if operator != "zero_pad" or family in ("mlp", "resnet")],
)  # fmt: skip
def test_the_channels_of_the_base_are_found_in_the_wider_network(family: str, operator: str) -> None:
    """Rows of the wider network's producers, at the matched channels, are the base's."""
    base, _ = problem(family)
    large = expand(base, operator, factor=2.0, seed=3)
    hidden, _ = planted(large, 2)
    maps = match(base, hidden, torch.Generator().manual_seed(0), starts=5)
    found, table = gathered(hidden, maps), _table(base)
    rows = 0
    for name, value in base.named_parameters():
        axes = table.tensors[name]
        if all(axis.role != "in" or not axis.groups for axis in axes) and "qkv" not in name:
            assert torch.allclose(found[name], value, atol=1e-12), name  # nothing in it was split
            rows += 1
        assert found[name].shape == value.shape
    assert rows >= 2


def test_networks_that_do_not_match_are_refused() -> None:
    generator = torch.Generator()
    mlp, resnet = problem("mlp")[0], problem("resnet")[0]
    with pytest.raises(UndefinedError, match="one family and depth"):
        match(mlp, resnet, generator)
    with pytest.raises(UndefinedError, match="one family and depth"):
        match(mlp, expand(mlp, "net2deeper", axis="depth", factor=2.0), generator)
    with pytest.raises(UndefinedError, match="give the smaller first"):
        match(expand(mlp, "net2wider", factor=2.0), mlp, generator)
