"""Sizes: how they grow, what they may be, and what the configuration offers."""

import itertools
from pathlib import Path

import pytest
import yaml

from mmbench.data.base import InputShape
from mmbench.errors import ConfigError, UndefinedError
from mmbench.models.base import scaled
from mmbench.registry import MODELS
from models.networks import FAMILIES, SHAPE, small

CONF = Path(__file__).parents[2] / "conf" / "model"
FACTORS = [1.0, 1.01, 1.2, 1.5, 1.9, 2.0, 2.5, 3.3]
GROWTHS = {
    "width": lambda architecture, factor: architecture.widened(factor),
    "hidden": lambda architecture, factor: architecture.widened(factor, "hidden"),
    "depth": lambda architecture, factor: architecture.deepened(factor),
}
UNDEFINED = {("mlp", "depth"), ("resnet", "hidden")}


@pytest.mark.parametrize(
    ("size", "factor", "grown"),
    [(8, 2.0, 16), (3, 1.5, 5), (5, 1.5, 8), (5, 1.0999, 5), (5, 1.1, 6), (7, 0.2, 7), (1, 1.49, 1)],
)
def test_scaled_rounds_halves_up_and_never_shrinks(size, factor, grown):
    assert scaled(size, factor) == grown


@pytest.mark.parametrize("axis", GROWTHS)
@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_shrinks_and_counts_never_fall_as_the_factor_rises(family, axis):
    base = small(family)
    if (family, axis) in UNDEFINED:
        with pytest.raises(UndefinedError, match=f"family '{family}'"):
            GROWTHS[axis](base, 2.0)
        return
    grown = [GROWTHS[axis](base, factor) for factor in FACTORS]
    assert grown[0] == base
    tables = [architecture.table(SHAPE) for architecture in grown]
    for before, after in itertools.pairwise(tables):
        assert before.tensors.keys() <= after.tensors.keys()
        for name in before.tensors:
            assert all(a <= b for a, b in zip(before.shape(name), after.shape(name), strict=True)), name
    assert tables[-1].parameters() > tables[0].parameters()
    assert (grown[-1].depth() > base.depth()) == (axis == "depth")


def test_each_axis_grows_what_it_says():
    resnet = MODELS["resnet"](channels=(3, 5), layers=(1, 2))
    assert resnet.widened(2.0) == MODELS["resnet"](channels=(6, 10), layers=(1, 2))
    assert resnet.deepened(2.0) == MODELS["resnet"](channels=(3, 5), layers=(2, 4))
    vit = MODELS["vit"](embed_dim=6, heads=2, hidden=7, layers=2)
    assert vit.widened(1.5) == MODELS["vit"](embed_dim=9, heads=3, hidden=11, layers=2)
    assert vit.widened(1.5, "hidden") == MODELS["vit"](embed_dim=6, heads=2, hidden=11, layers=2)
    assert vit.deepened(1.5) == MODELS["vit"](embed_dim=6, heads=2, hidden=7, layers=3)
    mlp = MODELS["mlp"](hidden=(7, 5))
    assert mlp.widened(2.0) == mlp.widened(2.0, "hidden") == MODELS["mlp"](hidden=(14, 10))
    assert (mlp.depth(), resnet.depth(), vit.depth()) == (2, 3, 2)


def test_a_grown_architecture_is_described_as_if_made_from_options():
    for family in FAMILIES:
        grown = small(family).widened(2.0)
        assert MODELS.create(grown.describe()) == grown
        assert MODELS.create(grown.describe()).describe() == grown.describe()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "mlp", "hidden": []}, "model.hidden = [] is not allowed: must be a list"),
        ({"name": "mlp", "hidden": [8, 0]}, "model.hidden.1 = 0 is not allowed: must be an integer >= 1"),
        ({"name": "mlp", "hidden": [8.5]}, "model.hidden.0 = 8.5 is not allowed: must be an integer"),
        ({"name": "mlp", "width": 8}, "option model.width = 'width' is unknown"),
        ({"name": "resnet", "channels": [8, 16]}, "model.channels has 2 stages and model.layers 3; give both the same"),
        ({"name": "resnet", "layers": [1, 0, 1]}, "model.layers.1 = 0 is not allowed: must be an integer >= 1"),
        ({"name": "vit", "heads": 3}, "model.embed_dim = 32 must be a multiple of model.heads = 3"),
        ({"name": "vit", "layers": 0}, "model.layers = 0 is not allowed: must be an integer >= 1"),
        ({"name": "vit", "heads": "2"}, "model.heads = '2' is not allowed: must be an integer"),
        ({"name": "wit"}, "model.name = 'wit' is unknown; did you mean 'vit'? (allowed: mlp, resnet, vit)"),
    ],
    ids=lambda value: None if isinstance(value, str) else " ".join(map(str, value.values())),
)
def test_wrong_options_are_named_with_what_is_allowed(options, message):
    with pytest.raises(ConfigError) as caught:
        MODELS.create(options)
    assert message in caught.value.problems[0]


def test_a_patch_that_does_not_fit_the_image_is_refused_with_both_sizes():
    vit, shape = MODELS["vit"](patch_size=3), InputShape(1, 8, 10)
    for use in (vit.table, vit.build, vit.parameters):
        with pytest.raises(UndefinedError, match=r"model\.patch_size = 3 does not divide the image size 8"):
            use(shape)


@pytest.mark.parametrize("file", sorted(CONF.glob("*.yaml")), ids=lambda file: file.stem)
def test_a_configuration_file_holds_all_options_of_its_family(file):
    options = yaml.safe_load(file.read_text())
    architecture = MODELS.create(options)
    assert options.keys() == {"name", *type(architecture).model_fields}
    if file.stem == architecture.name:
        assert architecture == type(architecture)(), "the file named as the family holds its defaults"


def test_every_family_has_a_configuration_file():
    assert {file.stem for file in CONF.glob("*.yaml")} >= set(FAMILIES)
