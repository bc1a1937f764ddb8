from __future__ import annotations

import copy
import itertools
import math
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

from mmbench import expand
from mmbench.data.base import InputShape, Split
from mmbench.errors import ScoreError, UndefinedError
from mmbench.landscape.matching import Pair, gathered, match, permuted
from mmbench.landscape.paths import barrier, place
from mmbench.landscape.surface import Surface
from mmbench.models.base import MODELS
from mmbench.models.reading import architecture_of
from mmbench.models.table import Table

from .conftest import path_losses

Maps = dict[str, torch.Tensor]
SHAPE = InputShape(channels=2, image_size=8, classes=3)
NETWORKS: dict[str, dict[str, Any]] = {
    "mlp": {"name": "mlp", "hidden": (16, 12)},
    "cnn": {"name": "cnn", "channels": (6, 8), "hidden": (12,)},
    "resnet": {"name": "resnet", "channels": (6, 8), "inner": (5, 7), "layers": (2, 2)},
    "bottleneck": {"name": "resnet", "block": "bottleneck", "channels": (3, 4), "layers": (2, 1)},
    "vit": {"name": "vit", "embed_dim": 12, "heads": 4, "hidden": 20, "layers": 2, "patch_size": 4},
    "vit with all": {
        **{"name": "vit", "embed_dim": 10, "heads": 3, "head_dim": 4, "hidden": 11, "layers": 2, "patch_size": 4},
        **{"pool": "avg", "registers": 2, "pre_norm": True, "qkv_bias": False, "layer_scale": True},
    },
    "mixer": {"name": "mixer", "embed_dim": 12, "token_hidden": 6, "channel_hidden": 14, "layers": 2, "patch_size": 2},
    "convnext": {"name": "convnext", "channels": (4, 5, 6, 7), "layers": (2, 1, 1, 1), "kernel_size": 3},
}
every_network = pytest.mark.parametrize("name", NETWORKS)


def test_every_family_is_here() -> None:
    assert {options["name"] for options in NETWORKS.values()} == set(MODELS.names())


@cache
def built(name: str, shape: InputShape, **options: Any) -> tuple[nn.Module, Table]:
    architecture = MODELS.create({**NETWORKS[name], **options})
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return architecture.build(shape).double(), architecture.table(shape)


def network(name: str, seed: int = 0, shape: InputShape = SHAPE, **options: Any) -> nn.Module:
    """In float64, with weights and running statistics as after training: none of them special or equal."""
    model = copy.deepcopy(built(name, shape, **options)[0])
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        for key, tensor in model.state_dict().items():
            if "running_var" in key:
                tensor.uniform_(0.3, 3)
            elif tensor.is_floating_point():  # weights of any seed, as large as those of the initialisation
                if tensor.dim() > 1:
                    tensor.copy_(torch.randn_like(tensor) * tensor.square().mean().sqrt())
                tensor.add_(torch.randn_like(tensor), alpha=0.5 if "running" in key else 0.1)
    return model.eval()


def table(name: str) -> Table:
    return built(name, SHAPE)[1]


def secret(table: Table, generator: torch.Generator) -> Maps:
    """A random order of every group, none as it was."""
    orders = {name: torch.randperm(group.size, generator=generator) for name, group in table.groups.items()}
    return {name: o.roll(1) if torch.equal(o, torch.arange(len(o))) else o for name, o in orders.items()}


def images(count: int = 6, size: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(count, 2, size, size, dtype=torch.float64, generator=generator)


def noisy(model: nn.Module, generator: torch.Generator, level: float) -> nn.Module:
    """Noise of `level` times the spread of each tensor, in place."""
    with torch.no_grad():
        for p in model.parameters():
            p += level * p.std(correction=0) * torch.randn(p.shape, dtype=p.dtype, generator=generator)
    return model


def distance(model: nn.Module, state: dict[str, torch.Tensor]) -> float:
    """Squared, of the parameters."""
    return sum((p - state[key]).square().sum().item() for key, p in model.named_parameters())


def same(found: Maps, expected: Maps) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


def inverse(maps: Maps) -> Maps:
    return {name: order.argsort() for name, order in maps.items()}


@every_network
def test_a_permuted_network_is_the_same_function(name: str) -> None:
    model = network(name)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    orders = secret(table(name), torch.Generator().manual_seed(1))
    changed = permuted(model, orders)
    assert any(not torch.equal(tensor, before[key]) for key, tensor in changed.state_dict().items())
    torch.testing.assert_close(changed(images()), model(images()), rtol=1e-10, atol=1e-10)
    for key, tensor in permuted(changed, inverse(orders)).state_dict().items():
        assert torch.equal(tensor, before[key])
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize("group", ["stream", "head_dim", "blocks.0.heads", "blocks.1.heads", "blocks.1.hidden"])
def test_heads_and_their_channels_can_be_permuted_one_without_the_other(group: str) -> None:
    model, orders = network("vit with all"), secret(table("vit with all"), torch.Generator().manual_seed(1))
    changed = permuted(model, {group: orders[group]})
    torch.testing.assert_close(changed(images()), model(images()), rtol=1e-10, atol=1e-10)


def test_two_axes_of_one_tensor_are_permuted_together() -> None:
    """With patches of two pixels a ConvNeXt's first downsampling leads from a stream into itself."""
    shape = InputShape(2, 32, 3)
    model = network("convnext", patch_size=2, shape=shape)
    orders = secret(built("convnext", shape, patch_size=2)[1], torch.Generator().manual_seed(1))
    changed = permuted(model, orders)
    torch.testing.assert_close(changed(images(2, 32)), model(images(2, 32)), rtol=1e-10, atol=1e-10)
    assert same(match(model, changed, torch.Generator().manual_seed(0)), inverse(orders))


@every_network
def test_a_planted_permutation_is_found_again(name: str) -> None:
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        model, orders = network(name, seed), secret(table(name), generator)
        changed = permuted(model, orders)
        for level in (0.0, 0.05):
            assert same(match(model, noisy(changed, generator, level), generator), inverse(orders)), (seed, level)


@every_network
def test_the_objective_never_falls_and_is_the_distance(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = network(name, 0), network(name, 1)
    pair, tensors = Pair(a, b), table(name).tensors
    whole = {key for key, _ in a.named_parameters() if not any(axis.groups for axis in tensors[key])}
    constant = sum((a.state_dict()[key] - b.state_dict()[key]).square().sum().item() for key in whole)
    for maps in (pair.sorted_start(), pair.start(), pair.start(generator)):
        values = list(pair.ascend(maps, generator))
        assert len(values) > 1
        assert values == sorted(values)
        moved = gathered(b, maps)
        assert values[-1] == pytest.approx(-(distance(a, moved) - constant) / 2, rel=1e-12)


def test_a_tiny_network_is_matched_as_by_trying_all_orders() -> None:
    for seed in range(5):
        a, b = network("mlp", seed, hidden=(4, 3)), network("mlp", seed + 50, hidden=(4, 3))
        pair = Pair(a, b)
        best = max(
            pair.value({"fc1": torch.tensor(first), "fc2": torch.tensor(second)})
            for first in itertools.permutations(range(4))
            for second in itertools.permutations(range(3))
        )
        found = match(a, b, torch.Generator().manual_seed(seed), restarts=8)
        assert pair.value(found) == pytest.approx(best, rel=1e-12)


def test_a_tiny_network_is_found_in_a_wider_one_as_by_trying_all_maps() -> None:
    for seed in range(5):
        a, b = network("mlp", seed, hidden=(2, 2)), network("mlp", seed + 50, hidden=(4, 3))
        pair = Pair(a, b)
        best = max(
            pair.value({"fc1": torch.tensor(first), "fc2": torch.tensor(second)})
            for first in itertools.permutations(range(4), 2)
            for second in itertools.permutations(range(3), 2)
        )
        found = match(a, b, torch.Generator().manual_seed(seed), restarts=8)
        assert pair.value(found) == pytest.approx(best, rel=1e-12)


@every_network
def test_the_barrier_to_a_permuted_copy_falls_to_nothing(name: str) -> None:
    generator = torch.Generator().manual_seed(3)
    model = network(name)
    data = Split(images(24), model(images(24)).argmax(1))  # what the network says: a minimum, nearly
    other = noisy(permuted(model, secret(table(name), generator)), generator, 0.01)
    before = height(model, other, data)
    after = height(model, permuted(other, match(model, other, generator)), data)
    assert before > 0.01
    assert after < 0.01 * before


def height(a: nn.Module, b: nn.Module, data: Split) -> float:
    surface = Surface(copy.deepcopy(a), data)
    return barrier(path_losses(surface, place(a), place(b), [i / 6 for i in range(7)]))


@pytest.mark.parametrize(
    ("name", "operator", "options"),
    [
        *((name, "net2wider", {}) for name in MODELS.names()),
        *((name, "hypercloning", {}) for name in ("bottleneck", "vit with all", "mixer")),
        *((name, "zero_pad", {}) for name in ("mlp", "bottleneck")),
        *((name, "zero_pad", {"axis": "hidden"}) for name in ("vit", "mixer")),
        ("vit", "zero_pad", {"axis": "heads"}),
        ("vit", "hypercloning", {"axis": "head_dim"}),
        ("resnet", "net2wider", {"factor": 1.5}),
    ],
    ids=lambda value: str(value) if value else "",
)
def test_a_base_model_is_found_again_in_its_expansion(name: str, operator: str, options: dict[str, Any]) -> None:
    base, small, generator = network(name), table(name), torch.Generator().manual_seed(7)
    large = expand(base, operator, **{"factor": 2.0, **options}).eval()
    architecture, shape = architecture_of(large)
    orders = secret(architecture.table(shape), generator)
    hidden = permuted(large, orders)
    maps = match(base, hidden, generator)
    assert all(len(maps[group].unique()) == len(maps[group]) == g.size for group, g in small.groups.items())
    own = gathered(large, {group: torch.arange(g.size) for group, g in small.groups.items()})  # a channel's first copy
    found, right = gathered(hidden, maps), []
    assert distance(base, found) <= distance(base, own) + 1e-12
    for key, tensor in base.state_dict().items():
        assert found[key].shape == tensor.shape
        if options.get("axis") == "head_dim" and ".attn.qkv." in key:  # queries make up for the longer dot products
            found[key][: len(tensor) // 3] *= math.sqrt(2)
        if operator == "zero_pad":
            torch.testing.assert_close(found[key], tensor, rtol=1e-10, atol=1e-12)
        elif small.tensors[key] and all(axis.role == "out" for axis in small.tensors[key]):
            right.append(torch.isclose(found[key], tensor, rtol=1e-10, atol=1e-12))
    if operator == "zero_pad":
        again = copy.deepcopy(base)
        again.load_state_dict(found)
        torch.testing.assert_close(again(images()), large(images()), rtol=1e-10, atol=1e-10)
    else:  # copies share a channel's outgoing weights, so that another channel can be nearer, now and then
        assert torch.cat(right).double().mean() > 0.97


def test_equal_channels_are_preferred_to_large_ones() -> None:
    """The inner product alone would choose the larger copies."""
    base = network("mlp", hidden=(3,))
    large = expand(base, "zero_pad", factor=2.0)
    with torch.no_grad():
        for key in ("fc1.weight", "fc1.bias"):
            large.get_parameter(key)[3:] = 5 * base.get_parameter(key)
    turned = permuted(large, {"fc1": torch.tensor([3, 4, 5, 0, 1, 2])})
    assert match(base, turned, torch.Generator().manual_seed(0))["fc1"].tolist() == [3, 4, 5]


@pytest.mark.parametrize("seed", range(3))
@every_network
def test_more_restarts_are_never_farther(name: str, seed: int) -> None:
    a, b = network(name, seed), network(name, seed + 10)
    pair = Pair(a, b)
    values = [pair.value(match(a, b, torch.Generator().manual_seed(seed), count)) for count in (0, 1, 2, 4)]
    assert values == sorted(values)
    assert values[0] >= pair.value(pair.start())


def test_the_same_seed_finds_the_same_maps_and_restarts_never_lose() -> None:
    a, b = network("mlp", 0), network("mlp", 1)
    pair = Pair(a, b)

    def run(restarts: int) -> Maps:
        return match(a, b, torch.Generator().manual_seed(2), restarts)

    assert same(run(2), run(2))
    assert pair.value(run(0)) >= pair.value(pair.start())
    assert pair.value(run(4)) >= pair.value(run(0))
    own = {group: torch.arange(g.size) for group, g in table("mlp").groups.items()}
    assert same(match(a, a, torch.Generator()), own)


def test_networks_in_half_precision_and_channels_last_are_matched() -> None:
    model = network("resnet").bfloat16().to(memory_format=torch.channels_last)
    generator = torch.Generator().manual_seed(1)
    orders = secret(table("resnet"), generator)
    changed = permuted(model, orders)
    assert changed.get_parameter("conv1.weight").is_contiguous(memory_format=torch.channels_last)
    assert changed.get_parameter("conv1.weight").dtype == torch.bfloat16
    assert same(match(model, changed, generator), inverse(orders))


@pytest.mark.parametrize(
    ("reference", "model", "message"),
    [
        (("mlp", {}), ("resnet", {}), "family 'mlp', the model of family 'resnet'; matching needs two networks of the"),
        (("vit", {}), ("vit", {"layers": 3}), r"blocks\.2\..* missing in the reference and .* not in depth"),
        (("mlp", {}), ("mlp", {"hidden": (16, 12, 12)}), r"tensor 'head\.weight' is .* matching needs networks that"),
        (("resnet", {}), ("resnet", {"kernel_size": 5}), r"\(5, 6, 3, 3\) in the reference and \(5, 6, 5, 5\)"),
        (("mixer", {}), ("mixer", {"shape": InputShape(1, 8, 3)}), "'stem.proj.weight' .* differ only in width"),
        (("resnet", {"channels": (6, 9)}), ("resnet", {}), "'stage1' has 9 channels .* and 8 in the model"),
    ],
    ids=["family", "depth", "layers", "kernel", "input", "narrower"],
)  # fmt: skip
def test_networks_that_do_not_match_are_refused(reference: Any, model: Any, message: str) -> None:
    a, b = (network(name, **options) for name, options in (reference, model))
    with pytest.raises(UndefinedError, match=message):
        match(a, b, torch.Generator())


def test_a_network_of_no_family_is_refused() -> None:
    with pytest.raises(UndefinedError, match="a Linear belongs to no family"):
        match(nn.Linear(2, 2), network("mlp"), torch.Generator())


def test_weights_that_are_not_finite_are_refused() -> None:
    model = network("mlp")
    with torch.no_grad():
        model.get_parameter("fc2.bias")[1] = math.nan
    with pytest.raises(ScoreError, match=r"tensor 'fc2\.bias' holds values that are not finite"):
        match(network("mlp"), model, torch.Generator())


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        ({"fc9": [0]}, "no channel group 'fc9'; it has fc1, fc2"),
        ({"fc2": [0, 1]}, r"'fc2' needs a permutation of its 12 channels, not \[0, 1\]"),
        ({"fc2": [0] * 12}, "needs a permutation of its 12"),
    ],
    ids=["unknown group", "too short", "twice"],
)
def test_what_is_no_permutation_is_refused(maps: dict[str, list[int]], message: str) -> None:
    with pytest.raises(UndefinedError, match=message):
        permuted(network("mlp"), {name: torch.tensor(order) for name, order in maps.items()})


def test_channels_that_are_not_there_cannot_be_gathered() -> None:
    with pytest.raises(UndefinedError, match=r"'fc2' has channels 0 to 11; the map has \[3, 12\]"):
        gathered(network("mlp"), {"fc2": torch.tensor([3, 12])})
