"""Sizes: how they grow, what they may be, and what the configuration offers."""

from pathlib import Path

import pytest
import yaml

from mmbench.errors import ConfigError, UndefinedError
from mmbench.models.base import MODELS, interleaved, scaled
from mmbench.testing.cells import FAMILIES
from mmbench.testing.models import NETWORKS, SHAPE
from tests.models.networks import CASES

CONF = Path(__file__).parents[2] / "conf" / "model"
GROWTHS = [(name, axis) for name, (architecture, _) in CASES.items() for axis in architecture.axes]


@pytest.mark.parametrize(
    ("family", "axis", "reason"),
    [
        ("mlp", "stream", "it has no residual stream"),
        ("resnet", "heads", "it has no attention heads"),
        ("mixer", "head_dim", "it has no attention heads"),
        ("vit", "kernel", "it has no convolution kernels that can grow around their centre"),
        ("convnext", "resolution", "there is no such axis"),
    ],
)
def test_an_axis_that_a_family_lacks_has_a_reason(family, axis, reason):
    with pytest.raises(UndefinedError, match=f"along expansion.axis = {axis}: {reason}; it grows along "):
        NETWORKS[family].grown(axis, 2.0)


@pytest.mark.parametrize(
    ("size", "factor", "unit", "grown"),
    [
        *((8, 2.0, 1, 16), (3, 1.5, 1, 5), (5, 1.5, 1, 8), (5, 1.0999, 1, 5), (5, 1.1, 1, 6), (7, 0.2, 1, 7)),
        *((1, 1.49, 1, 1), (3, 1.3, 2, 3), (3, 1.34, 2, 5), (3, 2.0, 2, 7), (5, 2.0, 2, 11), (6, 1.5, 2, 10)),
    ],
)
def test_scaled_rounds_halves_up_in_whole_units_and_never_shrinks(size, factor, unit, grown):
    assert scaled(size, factor, unit) == grown


@pytest.mark.parametrize(
    ("old", "new", "places"),
    [
        (1, 3, [0, None, None]),
        (2, 4, [0, None, 1, None]),
        (2, 3, [0, None, 1]),
        (3, 4, [0, None, 1, 2]),
        (2, 2, [0, 1]),
    ],
)
def test_old_blocks_stand_evenly_among_new_ones(old, new, places):
    assert interleaved(old, new) == places


@pytest.mark.parametrize(("name", "axis"), GROWTHS)
def test_growth_along_an_axis_keeps_all_sizes_that_are_not_on_it(name, axis):
    base, _ = CASES[name]
    grown, before = base.grown(axis, 3.3).sizes(), base.sizes()
    fields = {*base.axes[axis], *(["embed_dim"] if (base.name, axis) == ("vit", "width") else [])}
    if axis == "depth" and base.placed:  # a pool stays behind its convolution, whose number changes
        assert base.placed == ("pools",)
        assert len(grown["pools"]) == len(before["pools"])
        fields |= {"pools"} if before["pools"] else set()
    assert {field for field in before if grown[field] != before[field]} == fields


def test_units():
    seven = MODELS["resnet"](channels=(6, 8, 10, 12), layers=(1, 1, 1, 1), stem="7x7")
    assert (seven.unit("channels"), seven.unit("inner"), seven.unit("kernel_size")) == (2, 1, 2)
    assert (NETWORKS["resnet"].unit("channels"), NETWORKS["vit"].unit("head_dim")) == (1, 1)


@pytest.mark.parametrize(
    ("family", "given", "follows"),
    [
        ("resnet", {"channels": (3, 5), "layers": (1, 1), "inner": (3, 5)}, "inner"),
        ("vit", {"embed_dim": 6, "heads": 2, "head_dim": 3}, "head_dim"),
        ("convnext", {"channels": (1, 2, 3, 4), "hidden": (4, 8, 12, 16)}, "hidden"),
    ],
)
def test_a_size_that_follows_is_left_to_follow(family, given, follows):
    architecture = MODELS[family](**given)
    normal = architecture.of(architecture.sizes())
    assert getattr(normal, follows) is None
    assert normal.sizes() == architecture.sizes()
    assert normal.table(SHAPE) == architecture.table(SHAPE)


@pytest.mark.parametrize("factor", [1.1, 1.3, 1.5, 1.7, 2.0, 2.2, 3.0, 4.0])
def test_kernels_stay_odd_and_the_stem_of_timms_class_even(factor):
    for family in ("resnet", "convnext"):
        for size in (1, 3, 5, 7):
            grown = MODELS[family](kernel_size=size).grown("kernel", factor).kernel_size
            assert grown % 2 == 1
            assert abs(grown - size * factor) <= 1
    seven = MODELS["resnet"](channels=(6, 7, 9, 11), layers=(1, 1, 1, 1), stem="7x7")
    assert all(seven.grown(axis, factor).channels[0] % 2 == 0 for axis in ("width", "stream"))


def test_each_axis_grows_what_it_says():
    mlp = MODELS["mlp"](hidden=(7, 5))
    assert mlp.grown("width", 2.0) == mlp.grown("hidden", 2.0) == MODELS["mlp"](hidden=(14, 10))
    resnet = MODELS["resnet"](channels=(3, 5), layers=(1, 2))
    assert resnet.grown("width", 2.0) == MODELS["resnet"](channels=(6, 10), layers=(1, 2))
    assert resnet.grown("stream", 2.0) == MODELS["resnet"](channels=(6, 10), layers=(1, 2), inner=(3, 5))
    assert resnet.grown("hidden", 2.0) == MODELS["resnet"](channels=(3, 5), layers=(1, 2), inner=(6, 10))
    assert resnet.grown("depth", 2.0) == MODELS["resnet"](channels=(3, 5), layers=(2, 4))
    assert resnet.grown("kernel", 2.0) == MODELS["resnet"](channels=(3, 5), layers=(1, 2), kernel_size=7)
    sizes = {"embed_dim": 6, "heads": 2, "hidden": 7, "layers": 2}
    vit = MODELS["vit"](**sizes)
    assert vit.grown("width", 1.5) == MODELS["vit"](embed_dim=9, heads=3, hidden=11, layers=2)
    assert vit.grown("stream", 1.5) == MODELS["vit"](**sizes | {"embed_dim": 9}, head_dim=3)
    assert vit.grown("hidden", 1.5) == MODELS["vit"](**sizes | {"hidden": 11})
    assert vit.grown("heads", 1.5) == MODELS["vit"](**sizes | {"heads": 3}, head_dim=3)
    assert vit.grown("head_dim", 2.0) == MODELS["vit"](**sizes, head_dim=6)
    assert vit.grown("depth", 1.5) == MODELS["vit"](**sizes | {"layers": 3})
    mixer = MODELS["mixer"](embed_dim=6, token_hidden=5, channel_hidden=7)
    assert mixer.grown("width", 2.0) == MODELS["mixer"](embed_dim=12, token_hidden=10, channel_hidden=14)
    assert mixer.grown("hidden", 2.0) == MODELS["mixer"](embed_dim=6, token_hidden=10, channel_hidden=14)
    convnext = MODELS["convnext"](channels=(2, 3, 4, 5))
    assert convnext.grown("width", 2.0) == MODELS["convnext"](channels=(4, 6, 8, 10))
    assert convnext.grown("stream", 2.0) == MODELS["convnext"](channels=(4, 6, 8, 10), hidden=(8, 12, 16, 20))
    assert convnext.grown("kernel", 1.5) == MODELS["convnext"](channels=(2, 3, 4, 5), kernel_size=11)
    assert [NETWORKS[family].depth() for family in ("mlp", "resnet", "vit", "mixer", "convnext")] == [2, 3, 2, 2, 5]


@pytest.mark.parametrize(
    ("hidden", "factor", "grown"),
    [
        ((7, 5), 2.0, (7, 7, 5, 5)),
        ((7, 5), 1.5, (7, 7, 5)),
        ((7,), 3.0, (7, 7, 7)),
        ((9, 6, 4), 1.34, (9, 9, 6, 4)),
        ((9, 6, 4), 1.7, (9, 9, 6, 6, 4)),
        ((7, 5), 1.1, (7, 5)),
    ],
)
def test_a_new_layer_of_an_mlp_is_as_wide_as_the_one_it_follows(hidden, factor, grown):
    assert MODELS["mlp"](hidden=hidden).grown("depth", factor).hidden == grown


@pytest.mark.parametrize(
    ("options", "axis", "factor", "message"),
    [
        ({"name": "mlp", "hidden": [8]}, "width", 1e4, "'mlp' has hidden 0 = 80000: Input should be less than"),
        ({"name": "resnet", "channels": [8, 9, 9]}, "stream", 5e3, "'resnet' has channels 0 = 40000: Input should"),
        ({"name": "resnet", "kernel_size": 3}, "kernel", 12.0, "'resnet' has kernel_size = 37: Input should be less"),
        ({"name": "vit", "heads": 2}, "heads", 600.0, "'vit' has heads = 1200: Input should be less than or equal to"),
        ({"name": "vit", "layers": 2}, "depth", 600.0, "'vit' has layers = 1200: Input should be less than or equal"),
        ({"name": "vit", "embed_dim": 32}, "stream", 600.0, "'vit' has embed_dim = 19200: Input should be less than"),
        ({"name": "mixer", "token_hidden": 16}, "hidden", 1e4, "'mixer' has token_hidden = 160000: Input should be"),
        ({"name": "convnext", "kernel_size": 7}, "kernel", 10.0, "'convnext' has kernel_size = 71: Input should be"),
        ({"name": "convnext", "hidden": [32] * 4}, "hidden", 1e4, "'convnext' has hidden 0 = 320000: Input should"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else None,
)
def test_growth_beyond_the_range_of_a_size_is_undefined(options, axis, factor, message):
    with pytest.raises(UndefinedError) as caught:
        MODELS.create(options).grown(axis, factor)
    assert f"no network of the family {message}" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "mlp", "hidden": []}, "model.hidden = [] is not allowed: must be a list"),
        ({"name": "mlp", "hidden": [8, 0]}, "model.hidden.1 = 0 is not allowed: must be an integer >= 1"),
        ({"name": "mlp", "hidden": [8.5]}, "model.hidden.0 = 8.5 is not allowed: must be an integer"),
        ({"name": "mlp", "width": 8}, "option model.width = 'width' is unknown"),
        ({"name": "resnet", "channels": [8, 16]}, "model.channels has 2 stages and model.layers 3; give both the same"),
        ({"name": "resnet", "inner": [8, 16]}, "model.channels has 3 stages and model.inner 2; give both the same"),
        ({"name": "resnet", "layers": [1, 0, 1]}, "model.layers.1 = 0 is not allowed: must be an integer >= 1"),
        ({"name": "resnet", "kernel_size": 4}, "model.kernel_size = 4 must be odd"),
        (
            {"name": "resnet", "kernel_size": 33},
            "model.kernel_size = 33 is not allowed: must be an integer >= 1 and <=",
        ),
        ({"name": "resnet", "block": "wide"}, "model.block = 'wide' is not allowed: must be one of basic, bottleneck"),
        ({"name": "resnet", "stem": "7x7"}, "model.stem = 7x7 needs four stages, the first with an even number of"),
        (
            {"name": "resnet", "stem": "7x7", "channels": [7, 8, 8, 8], "layers": [1, 1, 1, 1]},
            "an even number of channels; model.channels = [7, 8, 8, 8]",
        ),
        (
            {"name": "vit", "embed_dim": 32, "heads": 3},
            "model.embed_dim = 32 must be a multiple of model.heads = 3, unless model.head_d",
        ),
        ({"name": "vit", "head_dim": 0}, "model.head_dim = 0 is not allowed: must be an integer >= 1"),
        ({"name": "vit", "layers": 0}, "model.layers = 0 is not allowed: must be an integer >= 1"),
        ({"name": "vit", "heads": "2"}, "model.heads = '2' is not allowed: must be an integer"),
        ({"name": "vit", "class_token": False}, "model.pool = token needs model.class_token = true; or use model.pool"),
        ({"name": "vit", "pool": "map"}, "model.pool = 'map' is not allowed: must be one of token, avg"),
        ({"name": "vit", "registers": -1}, "model.registers = -1 is not allowed: must be an integer >= 0"),
        ({"name": "vit", "eps": 0.0}, "model.eps = 0.0 is not allowed: must be a number"),
        ({"name": "vit", "layer_scale": 1e-5}, "model.layer_scale = 1e-05 is not allowed: must be true or false"),
        ({"name": "mixer", "token_hidden": 0}, "model.token_hidden = 0 is not allowed: must be an integer >= 1"),
        (
            {"name": "mixer", "patch_size": 65},
            "model.patch_size = 65 is not allowed: must be an integer >= 1 and <= 64",
        ),
        ({"name": "convnext", "channels": [8, 16, 32]}, "model.channels = [8, 16, 32] is not allowed: must be a list"),
        ({"name": "convnext", "hidden": [8, 16, 32]}, "model.hidden = [8, 16, 32] is not allowed: must be a list"),
        ({"name": "convnext", "kernel_size": 6}, "model.kernel_size = 6 must be odd"),
        (
            {"name": "convnext", "patch_size": 5},
            "model.patch_size = 5 is not allowed: must be an integer >= 1 and <= 4",
        ),
        (
            {"name": "wit"},
            "model.name = 'wit' is unknown; did you mean 'vit'? (allowed: cnn, convnext, mixer, mlp, resnet",
        ),
    ],
    ids=lambda value: None if isinstance(value, str) else " ".join(map(str, value.values())),
)
def test_wrong_options_are_named_with_what_is_allowed(options, message):
    with pytest.raises(ConfigError) as caught:
        MODELS.create(options)
    assert message in caught.value.problems[0]


@pytest.mark.parametrize("file", sorted(CONF.glob("*.yaml")), ids=lambda file: file.stem)
def test_a_configuration_file_holds_all_options_of_its_family(file):
    options = yaml.safe_load(file.read_text())
    architecture = MODELS.create(options)
    assert options.keys() == {"name", *type(architecture).model_fields}
    if file.stem == architecture.name:
        assert architecture == type(architecture)(), "the file named as the family holds its defaults"


def test_every_family_has_a_configuration_file():
    assert {file.stem for file in CONF.glob("*.yaml")} >= set(FAMILIES)
