"""`expand` as a function: deterministic, and nothing but its result changes; its options and their files."""

import copy
from pathlib import Path

import pytest
import torch
import yaml
from models.networks import images, network, small

import mmbench
from expansions.cells import DEFAULTS, EXACT, OPERATORS, Cell
from mmbench.errors import ConfigError, UndefinedError
from mmbench.expansions.base import expand
from mmbench.registry import EXPANSIONS

CONF = Path(__file__).parents[2] / "conf" / "expansion"
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def same(a, b):
    """Whether two networks have bit-identical states."""
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a)


@pytest.mark.parametrize("cell", DEFAULTS, ids=str)
def test_the_seed_decides_all_draws_and_nothing_else_does(cell):
    base = network(small(cell.family))
    first = cell.expand(base, seed=3)
    torch.rand(11)
    assert same(first, cell.expand(base, seed=3))
    assert same(first, cell.expand(base, seed=4)) == (cell.operator == "none")


@pytest.mark.parametrize("cell", DEFAULTS, ids=str)
def test_the_global_random_state_is_left(cell):
    base, before = network(small(cell.family)), torch.get_rng_state()
    cell.expand(base, seed=3)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize("cell", DEFAULTS, ids=str)
def test_the_given_network_is_left_and_shares_no_memory(cell, training):
    base = network(small(cell.family)).train(training)
    base(images()).sum().backward()
    before, gradients = copy.deepcopy(base), [p.grad.clone() for p in base.parameters()]
    large = cell.expand(base)
    with torch.no_grad():
        for tensor in large.state_dict().values():
            tensor.add_(1)
    assert same(base, before)
    assert all(torch.equal(p.grad, g) for p, g in zip(base.parameters(), gradients, strict=True))
    assert all(p.grad is None and p.requires_grad for p in large.parameters())
    assert [m.training for m in base.modules()] == [m.training for m in before.modules()]
    assert {m.training for m in large.modules()} == {training}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("cell", DEFAULTS, ids=str)
def test_dtype_and_device_are_kept(cell, dtype, device):
    base = network(small(cell.family), dtype).to(device)
    large = cell.expand(base)
    assert {(t.dtype, t.device.type) for t in large.state_dict().values() if t.is_floating_point()} == {(dtype, device)}
    with torch.no_grad():
        assert large(images(dtype=dtype).to(device)).dtype == dtype


@pytest.mark.parametrize("cell", [cell for cell in EXACT if not cell.options], ids=str)
def test_weights_that_are_laid_out_otherwise_in_memory_are_read_alike(cell):
    base = network(small(cell.family))
    other = copy.deepcopy(base).to(memory_format=torch.channels_last)
    assert same(cell.expand(base), cell.expand(other))


def test_the_package_offers_expand_by_name_or_by_operator():
    base = network(small("mlp"))
    by_name = mmbench.expand(base, "net2wider", factor=3.0, split="unequal", seed=2)
    assert same(by_name, expand(base, EXPANSIONS["net2wider"](factor=3.0, split="unequal"), seed=2))
    assert by_name.fc1.out_features == 21


def test_options_beside_an_operator_are_refused_and_not_ignored():
    with pytest.raises(ConfigError, match="factor, split cannot be given beside it"):
        expand(network(small("mlp")), EXPANSIONS["net2wider"](), factor=3.0, split="unequal")


def test_none_is_a_copy():
    base = network(small("resnet"))
    assert same(base, Cell("none", {}, "resnet").expand(base))


def test_blocks_are_inserted_where_the_position_says():
    base = network(small("vit"))
    for position, order in [("interleave", [0, None, 1, None]), ("top", [0, 1, None, None])]:
        large = expand(base, "identity_block", position=position)
        for block, origin in zip(large.blocks, order, strict=True):
            if origin is None:
                assert not block.attn.proj.weight.any()
                assert block.attn.qkv.weight.all()
            else:
                assert same(block, base.blocks[origin])
    uneven = expand(base, "identity_block", factor=2.5)
    assert [bool(block.attn.proj.weight.any()) for block in uneven.blocks] == [True, False, False, True, False]


def test_a_network_of_no_family_is_refused():
    with pytest.raises(UndefinedError, match="a Linear belongs to no family that can be expanded"):
        expand(torch.nn.Linear(2, 2), "net2wider")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "net2winder"}, "expansion.name = 'net2winder' is unknown; did you mean 'net2wider'? (allowed: "),
        ({"name": "net2wider", "factr": 2.0}, "option expansion.factr = 'factr' is unknown; did you mean 'factor'?"),
        ({"name": "net2wider", "factor": 1.0}, "expansion.factor = 1.0 is not allowed: must be a number > 1 and <= 64"),
        ({"name": "net2wider", "factor": 65}, "expansion.factor = 65 is not allowed: must be a number > 1 and <= 64"),
        ({"name": "net2wider", "factor": "2"}, "expansion.factor = '2' is not allowed: must be a number"),
        ({"name": "zero_pad", "budget": 0.5}, "expansion.budget = 0.5 is not allowed: must be a number > 1"),
        ({"name": "zero_pad", "tolerance": 0.06}, "expansion.tolerance = 0.06 is not allowed: must be a number >= 0"),
        ({"name": "random_pad", "axis": "depth"}, "expansion.axis = 'depth' is not allowed: must be one of width, hid"),
        (
            {"name": "scratch", "axis": "heads"},
            "expansion.axis = 'heads' is not allowed: must be one of width, hidden, d",
        ),
        ({"name": "identity_block", "axis": "width"}, "expansion.axis = 'width' is not allowed: must be one of depth"),
        ({"name": "identity_block", "position": "bottom"}, "must be one of interleave, top"),
        ({"name": "net2wider", "split": "even"}, "must be one of projection, unequal, equal"),
        ({"name": "net2wider", "split": "equal"}, "expansion.split = equal makes copies that stay identical for ever"),
        ({"name": "net2wider", "split": "equal"}, "set expansion.allow_symmetric=true"),
        ({"name": "none", "factor": 2.0}, "option expansion.factor = 'factor' is unknown"),
    ],
    ids=lambda value: None if isinstance(value, str) else " ".join(map(str, value.values())),
)
def test_wrong_options_are_named_with_what_is_allowed(options, message):
    with pytest.raises(ConfigError) as caught:
        EXPANSIONS.create(options)
    assert len(caught.value.problems) == 1
    assert message in str(caught.value)
    with pytest.raises(ConfigError):
        expand(network(small("mlp")), options["name"], **{k: v for k, v in options.items() if k != "name"})


@pytest.mark.parametrize("name", OPERATORS)
def test_the_configuration_file_of_an_operator_holds_its_options_and_defaults(name):
    options = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    assert options.keys() == {"name", *EXPANSIONS[name].model_fields}
    assert EXPANSIONS.create(options) == EXPANSIONS[name]()


def test_every_configuration_file_is_of_an_operator():
    assert {file.stem for file in CONF.glob("*.yaml")} == set(OPERATORS)
