"""`expand` as a function: deterministic, and nothing but its result changes; its options and their files."""

import copy
from pathlib import Path

import pytest
import torch
import yaml

import mmbench
from mmbench.errors import ConfigError, UndefinedError
from mmbench.expansions.apply import expand
from mmbench.expansions.base import EXPANSIONS
from mmbench.models.traits import EXPANDED, PREPROCESSING
from mmbench.testing.cells import FAMILIES, examples, same
from mmbench.testing.models import NETWORKS, network
from tests.expansions.cells import DEFAULTS, OPERATORS

CONF = Path(__file__).parents[2] / "conf" / "expansion"
NOTHING_DRAWN = ("none", "kernel_pad", "net2deeper", "stack", "interpolate")


@pytest.mark.parametrize("cell", [cell for cell in DEFAULTS if cell.family in ("mlp", "vit", "resnet")], ids=str)
def test_another_seed_draws_other_weights(cell):
    base = cell.base()
    assert same(cell.expand(base, seed=3), cell.expand(base, seed=4)) == (cell.operator in NOTHING_DRAWN)


# What gradmax computes from images is rounded otherwise in another layout.
@pytest.mark.parametrize("cell", [c for c in DEFAULTS if c.family == "resnet" and c.operator != "gradmax"], ids=str)
def test_weights_that_are_laid_out_otherwise_in_memory_are_read_alike(cell):
    base = cell.base()
    other = copy.deepcopy(base).to(memory_format=torch.channels_last)
    assert same(cell.expand(base), cell.expand(other))


def test_the_package_offers_expand_by_name_or_by_operator():
    base = network(NETWORKS["mlp"])
    by_name = mmbench.expand(base, "net2wider", factor=3.0, split="unequal", seed=2)
    assert same(by_name, expand(base, EXPANSIONS["net2wider"](factor=3.0, split="unequal"), seed=2))
    assert by_name.fc1.out_features == 21


def test_factor_beside_budget_is_refused():
    with pytest.raises(ConfigError, match="factor and budget both set the size of the network"):
        expand(network(NETWORKS["mlp"]), "net2wider", factor=3.0, budget=2.0)


def test_options_beside_an_operator_are_refused_and_not_ignored():
    with pytest.raises(ConfigError, match="factor, split cannot be given as well"):
        expand(network(NETWORKS["mlp"]), EXPANSIONS["net2wider"](), factor=3.0, split="unequal")


@pytest.mark.parametrize("name", NETWORKS)
def test_none_is_a_copy(name):
    base = network(NETWORKS[name])
    assert same(base, expand(base, "none"))


@pytest.mark.parametrize("name", FAMILIES)
def test_what_timm_knows_of_the_images_is_carried_over(name):
    base = network(NETWORKS[name])
    for attribute in PREPROCESSING:
        assert not hasattr(expand(base, "random_pad"), attribute) or hasattr(base, attribute)
        setattr(base, attribute, {"mean": (0.1, 0.2), attribute: name})
    large = expand(base, "random_pad")
    for attribute in PREPROCESSING:  # all but the name of the architecture, which is not the small one any more
        assert getattr(large, attribute) == getattr(base, attribute) | {"architecture": EXPANDED}


LOOKING = [cell for cell in DEFAULTS if EXPANSIONS[cell.operator].needs_data]
WRONG_DATA = {
    "images alone": lambda x, y: x,
    "fewer labels than images": lambda x, y: (x, y[:5]),
    "fewer images than labels": lambda x, y: (x[:5], y),
    "no images": lambda x, y: (x[:0], y[:0]),
    "other channels": lambda x, y: (x[:, :1], y),
    "no channels": lambda x, y: (x[:, 0], y),
    "labels that are no integers": lambda x, y: (x, y.double()),
    "labels beyond the classes": lambda x, y: (x, y + 3),
}


@pytest.mark.parametrize("wrong", WRONG_DATA)
@pytest.mark.parametrize("cell", [cell for cell in LOOKING if cell.family == "vit"], ids=str)
def test_data_of_the_wrong_kind_are_refused(cell, wrong):
    options = {**cell.options, **cell.quick}
    with pytest.raises(ConfigError, match="data"):
        expand(cell.base(), cell.operator, data=WRONG_DATA[wrong](*examples()), **options)


@pytest.mark.parametrize("cell", LOOKING, ids=str)
def test_data_are_left_and_read_in_any_precision(cell):
    x, y = examples()
    before, options = (x.clone(), y.clone()), {**cell.options, **cell.quick}
    base = cell.base()
    expand(base, cell.operator, data=(x, y), **options)
    assert torch.equal(x, before[0])
    assert torch.equal(y, before[1])
    single = expand(base, cell.operator, data=(x.float(), y), **options)
    assert all(tensor.isfinite().all() for tensor in single.state_dict().values())


def test_blocks_are_inserted_where_the_position_says():
    base = network(NETWORKS["vit"])
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
        ({"name": "zero_pad", "tolerance": 0.06}, "tolerance = 0.06 is not allowed: must be a number >= 0 and <= 0.05"),
        ({"name": "random_pad", "axis": "depth"}, "expansion.axis = 'depth' is not allowed: must be one of width, fir"),
        (
            {"name": "scratch", "axis": "layers"},
            "one of width, first, convolutions, stream, hidden, heads, head_dim, dep",
        ),
        ({"name": "identity_block", "axis": "width"}, "expansion.axis = 'width' is not allowed: must be one of depth"),
        ({"name": "kernel_pad", "axis": "width"}, "expansion.axis = 'width' is not allowed: must be one of kernel"),
        ({"name": "gradmax", "axis": "width"}, "expansion.axis = 'width' is not allowed: must be one of hidden"),
        ({"name": "lemon", "axis": "head_dim"}, "must be one of width, stream, hidden, heads"),
        ({"name": "ligo", "axis": "kernel"}, "one of width, first, convolutions, stream, hidden, heads, depth"),
        ({"name": "identity_block", "position": "bottom"}, "must be one of interleave, top"),
        ({"name": "identity_block", "content": "empty"}, "must be one of fresh, copy"),
        ({"name": "net2wider", "split": "even"}, "must be one of projection, unequal, paired, equal"),
        ({"name": "net2wider", "split": "equal"}, "expansion.split = equal makes copies that stay equal in training"),
        ({"name": "net2wider", "split": "equal"}, "set expansion.allow_symmetric=true"),
        ({"name": "hypercloning", "snr_db": None}, "expansion.snr_db = null makes copies that stay equal in training"),
        ({"name": "hypercloning", "snr_db": None}, "set expansion.allow_symmetric=true"),
        ({"name": "hypercloning", "snr_db": 121.0}, "expansion.snr_db = 121.0 is not allowed: must be a number >= -40"),
        ({"name": "gradmax", "images": 0}, "expansion.images = 0 is not allowed: must be an integer >= 1"),
        ({"name": "ligo", "learning_steps": 0}, "expansion.learning_steps = 0 is not allowed: must be an integer >= 1"),
        ({"name": "ligo", "learning_rate": 0.0}, "expansion.learning_rate = 0.0 is not allowed: must be a number > 0"),
        ({"name": "ligo", "noise": 0.0}, "expansion.noise = 0.0 is not allowed: must be a number > 0"),
        ({"name": "width_then_depth", "width": "ligo"}, "must be one of net2wider, zero_pad, hypercloning, lemon"),
        ({"name": "width_then_depth", "depth": "stack"}, "must be one of identity_block, net2deeper"),
        ({"name": "width_then_depth", "depth_factor": 1.0}, "expansion.depth_factor = 1.0 is not allowed: must be a n"),
        ({"name": "width_then_depth", "solve": "both"}, "must be one of width, depth"),
        ({"name": "stack", "match": "none"}, "expansion.match = 'none' is unknown"),
        (
            {"name": "stack", "match": "scratch", "budget": 2.0},
            "expansion.budget and expansion.match both set the size",
        ),
        ({"name": "none", "factor": 2.0}, "option expansion.factor = 'factor' is unknown"),
    ],
    ids=lambda value: "" if isinstance(value, str) else " ".join(map(str, value.values())),
)
def test_wrong_options_are_named_with_what_is_allowed(options, message):
    with pytest.raises(ConfigError) as caught:
        EXPANSIONS.create(options)
    assert len(caught.value.problems) == 1
    assert message in str(caught.value)
    with pytest.raises(ConfigError):
        expand(network(NETWORKS["mlp"]), options["name"], **{k: v for k, v in options.items() if k != "name"})


@pytest.mark.parametrize("name", OPERATORS)
def test_the_configuration_file_of_an_operator_holds_its_options_and_defaults(name):
    options = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    assert options.keys() == {"name", *EXPANSIONS[name].model_fields}
    assert EXPANSIONS.create(options) == EXPANSIONS[name]()


def test_every_configuration_file_is_of_an_operator():
    assert {file.stem for file in CONF.glob("*.yaml")} == set(OPERATORS)
