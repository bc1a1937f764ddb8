"""The axis tables against the networks they describe."""

import re

import pytest
import torch
from torch import nn

from mmbench.data.base import InputShape
from mmbench.errors import UndefinedError
from mmbench.models.base import MODELS, interleaved
from mmbench.models.skeleton import skeleton
from mmbench.testing.cells import FAMILIES
from mmbench.testing.models import NETWORKS, SHAPE, ModelContract, changes_of_logits, images, network, state_shapes
from tests.models.networks import CASES

DIGITS, COLOUR, DOT = InputShape(1, 8, 10), InputShape(3, 12, 2), InputShape(1, 1, 1)
SIZES = {
    **{f"default {family} for digits": (MODELS[family](), DIGITS) for family in FAMILIES},
    **{f"default {family} for colour images": (MODELS[family](), COLOUR) for family in FAMILIES},
    # 61 / 7 * 7 < 61 in floating point, and timm truncates the product
    "vit of awkward hidden units": (MODELS["vit"](embed_dim=7, heads=1, hidden=61, patch_size=4), DIGITS),
    "mixer of awkward hidden units": (MODELS["mixer"](embed_dim=7, token_hidden=61, channel_hidden=29), DIGITS),
    "wide vit": (MODELS["vit"](embed_dim=176, heads=11, hidden=403, layers=1, patch_size=4), COLOUR),
    "resnet of six stages": (MODELS["resnet"](channels=(2, 3, 2, 3, 2, 3), layers=(1, 1, 2, 1, 1, 1)), DIGITS),
    "mlp of one unit for one pixel": (MODELS["mlp"](hidden=(1,)), DOT),
    "cnn of one channel for one pixel": (MODELS["cnn"](channels=(1,), pools=(), hidden=(1,), kernel_size=1), DOT),
    "cnn without hidden layers": (MODELS["cnn"](channels=(3, 2), hidden=()), DIGITS),
    "cnn whose halvings leave a rest": (MODELS["cnn"](channels=(3, 2), pools=(1, 2)), InputShape(1, 15, 2)),
    "resnet of one channel for one pixel": (MODELS["resnet"](channels=(1,), layers=(1,), kernel_size=1), DOT),
    "bottleneck of one channel": (MODELS["resnet"](block="bottleneck", channels=(1,), layers=(1,)), DOT),
    "7x7 stem on one pixel": (MODELS["resnet"](channels=(2, 1, 1, 1), layers=(1, 1, 1, 1), stem="7x7"), DOT),
    "vit of one channel": (MODELS["vit"](embed_dim=1, heads=1, hidden=1, layers=1, patch_size=1), DOT),
    "vit of more heads than channels": (MODELS["vit"](embed_dim=2, heads=3, head_dim=1, patch_size=1), DOT),
    "mixer of one channel": (
        MODELS["mixer"](embed_dim=1, token_hidden=1, channel_hidden=1, layers=1, patch_size=1),
        DOT,
    ),
    "convnext of one channel": (MODELS["convnext"](channels=(1,) * 4, hidden=(1,) * 4, kernel_size=1), DIGITS),
    "convnext whose halvings leave a rest": (MODELS["convnext"](patch_size=3, kernel_size=9), InputShape(1, 25, 2)),
}


class TestUnusualSizes(ModelContract):
    """Sizes at which rounding or a single channel or pixel could go wrong."""

    @classmethod
    def cases(cls):
        return SIZES

    test_permuting_one_axis_of_a_group_alone_changes_the_function = None  # some groups have one channel
    test_growth_multiplies_the_sizes_of_an_axis = None  # tested on usual sizes
    test_increments_are_larger_in_one_stage = None
    test_an_architecture_is_that_of_its_sizes = None
    test_operations_are_counted_without_building_the_network = None
    test_a_skeleton_has_the_modules_and_tensors_of_the_network = None


GROWTHS = [(family, axis) for family in FAMILIES for axis in MODELS[family].axes]
GROWING = {
    ("mlp", "width"): r"fc\d+",
    ("mlp", "first"): r"fc1",
    ("mlp", "hidden"): r"fc\d+",
    ("cnn", "width"): r"conv\d|fc\d",
    ("cnn", "first"): r"conv1",
    ("cnn", "convolutions"): r"conv\d",
    ("cnn", "hidden"): r"fc\d",
    ("resnet", "first"): r"stage0",
    ("resnet", "convolutions"): r"stage\d|stages\.\d\.\d\.1",
    ("resnet", "width"): r"stage\d|stages\.\d\.\d\.1",
    ("resnet", "stream"): r"stage\d",
    ("resnet", "hidden"): r"stages\.\d\.\d\.1",
    ("vit", "width"): r"stream|blocks\.\d\.(heads|hidden)",
    ("vit", "stream"): r"stream",
    ("vit", "hidden"): r"blocks\.\d\.hidden",
    ("vit", "heads"): r"blocks\.\d\.heads",
    ("vit", "head_dim"): r"head_dim",
    ("mixer", "width"): r"stream|blocks\.\d\.(tokens|channels)",
    ("mixer", "stream"): r"stream",
    ("mixer", "hidden"): r"blocks\.\d\.(tokens|channels)",
    ("convnext", "width"): r"stage\d|stages\.\d\.blocks\.\d\.hidden",
    ("convnext", "stream"): r"stage\d",
    ("convnext", "hidden"): r"stages\.\d\.blocks\.\d\.hidden",
}
"""The groups, as a pattern, that are larger after growing along an axis; none after growing `kernel`."""


def test_the_networks_use_every_option_of_every_family():
    defaults = {(family, *option) for family in FAMILIES for option in MODELS[family]()}
    changed = {(architecture.name, *option) for architecture, _ in CASES.values() for option in architecture}
    options = {(family, option) for family in FAMILIES for option in MODELS[family].model_fields}
    assert {changed_option[:2] for changed_option in changed - defaults} == options


@pytest.mark.parametrize(("architecture", "shape"), CASES.values(), ids=CASES.keys())
def test_roles_and_pooling_are_those_of_the_modules(architecture, shape):
    table, normed, square = architecture.table(shape), set(), set()
    for name, module in skeleton(architecture, shape).named_modules():
        axes = table.tensors.get(f"{name}.weight", ())
        if isinstance(module, nn.LayerNorm):
            normed |= {*axes[0].groups}
        if isinstance(module, nn.Linear | nn.Conv2d):
            rows, columns, *kernel = (axis.role for axis in axes)
            assert rows in ("out", "fixed")
            assert columns in ("in", "fixed")
            assert {*kernel} <= {"kernel", "fixed"}
            square |= {name} if "kernel" in kernel else set()
        else:
            assert {axis.role for axis in axes} <= {"out"}
    assert {group for group, entry in table.groups.items() if entry.coupled_by == "LayerNorm"} == normed
    attention = {group for group, entry in table.groups.items() if entry.coupled_by == "attention"}
    assert attention == ({"head_dim"} if architecture.name == "vit" else set())
    resnet = ("conv1", "conv2") if getattr(architecture, "block", "") == "basic" else ("conv2",)
    convolutions = {"resnet": resnet, "convnext": ("conv_dw",)}.get(architecture.name, ())
    blocks = [block for stage in architecture.blocks() for block in stage]
    plain = {block for block in blocks if block.startswith("conv")}  # whose layers are the convolutions themselves
    assert square == plain | {f"{block}.{convolution}" for block in blocks for convolution in convolutions}


def test_a_bottleneck_has_two_inner_groups_and_the_stem_before_it_its_own():
    architecture, shape = CASES["ResNet of bottlenecks"]
    inner = [f"stages.{block}.{i}" for block in ("0.0", "1.0", "1.1") for i in (1, 2)]
    sizes = {group: entry.size for group, entry in architecture.table(shape).groups.items()}
    assert sizes == {"stem": 3, "stage0": 12, "stage1": 8} | dict(zip(inner, (3, 3, 2, 2, 2, 2), strict=True))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_tensor_and_block_matters_to_the_networks_that_the_tests_use(family):
    architecture, shape = CASES[f"small {family}"]
    model = network(architecture, shape=shape)
    with torch.no_grad():
        logits = model(images(shape=shape))
    assert logits.std(0).min() > 1e-2, "the logits hardly depend on the input"
    assert logits.abs().max() < 100
    blocks = [block for stage in architecture.blocks() for block in stage]

    def every_tensor_and_block(table, state):
        moved = {
            name: tensor + 0.1 * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(2))
            for name, tensor in state.items()
            if tensor.dtype.is_floating_point
        }
        inside = {block: {name: moved[name] for name in moved if name.startswith(f"{block}.")} for block in blocks}
        assert all(inside.values())
        return {name: {name: tensor} for name, tensor in moved.items()} | inside

    # What mixes the patches adds its last bias to all channels of a patch alike, which every LayerNorm takes out again.
    unseen = {f"{block}.mlp_tokens.fc2.bias" for block in blocks if architecture.name == "mixer"}
    found = changes_of_logits((architecture, shape), every_tensor_and_block)
    assert {name for name, change in found.items() if not change > 1e-3} == unseen
    assert all(found[name] < 1e-10 for name in unseen)


def test_only_plain_networks_have_blocks_without_silencers():
    assert {architecture.name for architecture, _ in CASES.values() if not architecture.silencers()} == {"mlp", "cnn"}


def sizes_that_differ(before, after):
    """All (tensor, dim) of different sizes; both have the same tensors."""
    assert before.keys() == after.keys()
    return {
        (name, dim)
        for name in before
        for dim, sizes in enumerate(zip(before[name], after[name], strict=True))
        if len({*sizes}) > 1
    }


@pytest.mark.parametrize(("family", "axis"), [growth for growth in GROWTHS if growth[1] != "depth"])
def test_growth_changes_exactly_the_axes_of_the_groups_that_grow(family, axis):
    base, grown = NETWORKS[family], NETWORKS[family].grown(axis, 2.0)
    table, larger = base.table(SHAPE), grown.table(SHAPE)
    growing = {group for group in table.groups if larger.groups[group] != table.groups[group]}
    pattern = GROWING.get((family, axis), "")
    assert growing == {group for group in table.groups if re.fullmatch(pattern, group)}
    assert bool(growing) == (axis != "kernel")
    expected = {
        (name, dim)
        for name, axes in table.tensors.items()
        for dim, entry in enumerate(axes)
        if growing & {*entry.groups} or (axis == "kernel" and entry.role == "kernel")
    }
    assert expected
    assert sizes_that_differ(state_shapes(skeleton(base, SHAPE)), state_shapes(skeleton(grown, SHAPE))) == expected


def test_every_growth_of_groups_has_its_expectation():
    assert GROWING.keys() == {growth for growth in GROWTHS if growth[1] not in ("depth", "kernel")}


@pytest.mark.parametrize(
    ("architecture", "shape", "factor"),
    [*((*case, 1.5) for case in CASES.values()), *((NETWORKS[family], SHAPE, 3.0) for family in FAMILIES)],
)
def test_growth_in_depth_adds_exactly_the_tensors_of_the_new_blocks(architecture, shape, factor):
    grown = architecture.grown("depth", factor)
    before, after = state_shapes(skeleton(architecture, shape)), state_shapes(skeleton(grown, shape))
    for old, new in zip(architecture.blocks(), grown.blocks(), strict=True):
        for place, origin in zip(new, interleaved(len(old), len(new)), strict=True):
            block = taken(after, place)
            assert block
            if origin is not None:
                assert block == taken(before, old[origin])
    assert grown.depth() > architecture.depth()
    assert before == after, "something changed outside the blocks"


def taken(tensors, block):
    """A block's tensors by the name in it, taken out of the dictionary."""
    names = [name for name in tensors if name.startswith(f"{block}.")]
    return {name.removeprefix(block): tensors.pop(name) for name in names}


@pytest.mark.parametrize(("family", "axis"), GROWTHS)
def test_a_network_64_times_as_large_has_its_table_or_is_undefined(family, axis):
    base = NETWORKS[family]
    try:
        grown = base.grown(axis, 64.0)
    except UndefinedError as error:
        assert axis == "kernel"
        assert f"no network of the family {family!r} has kernel_size = 193" in str(error)
        return
    table = grown.table(SHAPE)
    assert grown.extent(axis) == 64 * base.extent(axis)
    if axis != "depth":  # 64 times the blocks take long to build
        assert {name: table.shape(name) for name in table.tensors} == state_shapes(skeleton(grown, SHAPE))


@pytest.mark.parametrize(
    ("architecture", "size", "message"),
    [
        (
            MODELS["cnn"](channels=(2, 2, 2, 2), pools=(1, 2, 4)),
            7,
            "images of 7 pixels are too small for model.pools = [1, 2, 4]: 3 halvings need at least 8 pixels",
        ),
        (MODELS["vit"](patch_size=3), 8, "model.patch_size = 3 does not divide the image size 8"),
        (MODELS["vit"](patch_size=16), 8, "model.patch_size = 16 does not divide the image size 8"),
        (MODELS["mixer"](patch_size=3), 8, "model.patch_size = 3 does not divide the image size 8"),
        (
            MODELS["convnext"](),
            7,
            "images of 7 pixels are too small for model.patch_size = 1: 3 halvings follow; at le",
        ),
        (MODELS["convnext"](patch_size=2), 31, "4 halvings follow; at least 32 pixels are needed"),
        (MODELS["convnext"](patch_size=3), 23, "3 halvings follow; at least 24 pixels are needed"),
        (MODELS["convnext"](patch_size=4), 31, "3 halvings follow; at least 32 pixels are needed"),
    ],
    ids=lambda value: value.name if hasattr(value, "name") else None,
)
def test_an_image_that_does_not_fit_is_refused_with_both_sizes(architecture, size, message):
    for use in (architecture.table, architecture.build, architecture.parameters):
        with pytest.raises(UndefinedError) as caught:
            use(InputShape(1, size, 10))
        assert message in str(caught.value)


def test_sizes_are_planned_without_the_libraries_that_build_networks(in_fresh_python):
    script = f"""
import sys
from mmbench.data.base import InputShape
from mmbench.errors import UndefinedError
from mmbench.expansions.base import EXPANSIONS
from mmbench.models.base import MODELS
shape, defined = InputShape{tuple(DIGITS)}, 0
for family in MODELS.names():
    base = MODELS[family]()
    for axis in base.axes:
        assert base.grown(axis, 1.7).parameters(shape) > base.parameters(shape) > 0
    base.table(shape)
    for name in EXPANSIONS.names():
        for budget in [{{"budget": 2.0}}] if "budget" in EXPANSIONS[name].model_fields else [{{}}]:
            try:
                EXPANSIONS[name](**budget).target(base, shape)
                defined += 1
            except UndefinedError:
                pass
assert defined > 20, defined
print(*sorted({{"timm", "torchvision", "sklearn", "pandas"}} & sys.modules.keys()))
"""
    assert in_fresh_python(script).strip() == ""
