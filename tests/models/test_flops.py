"""Networks without values, and the operations that they count."""

import itertools

import pytest
import timm
import torch

from mmbench.data.base import InputShape
from mmbench.errors import UndefinedError
from mmbench.models.base import MODELS
from mmbench.models.flops import flops
from mmbench.models.reading import architecture_of
from mmbench.models.skeleton import skeleton
from mmbench.testing.cells import FAMILIES
from mmbench.testing.models import NETWORKS, SHAPE


def test_a_skeleton_and_its_operations_leave_the_random_state_and_later_networks_alone():
    for family in FAMILIES:
        torch.manual_seed(3)
        expected = NETWORKS[family].build(SHAPE).state_dict()
        torch.manual_seed(3)
        before = torch.get_rng_state()
        skeleton(NETWORKS[family], SHAPE)
        flops.__wrapped__(NETWORKS[family], SHAPE)
        assert torch.equal(torch.get_rng_state(), before)
        found = NETWORKS[family].build(SHAPE).state_dict()
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("hidden", [(1,), (7, 5), (9, 2, 4)])
def test_the_operations_of_an_mlp_are_two_per_weight(hidden):
    pixels = SHAPE.channels * SHAPE.image_size**2
    widths = (pixels, *hidden, SHAPE.classes)
    weights = sum(before * after for before, after in itertools.pairwise(widths))
    assert flops(MODELS["mlp"](hidden=hidden), SHAPE) == 2 * weights


def test_the_operations_of_a_vit_are_those_of_its_matrices_on_every_token_and_of_attention():
    stream, heads, head_dim, hidden, layers, patch = 6, 4, 2, 7, 3, 4
    vit = MODELS["vit"](
        embed_dim=stream, heads=heads, head_dim=head_dim, hidden=hidden, layers=layers, patch_size=patch, registers=2
    )
    patches = (SHAPE.image_size // patch) ** 2
    tokens = patches + 3
    weights = 4 * stream * heads * head_dim + 2 * stream * hidden
    attention = 2 * tokens**2 * heads * head_dim
    expected = patches * patch**2 * SHAPE.channels * stream + layers * (tokens * weights + attention)
    assert flops(vit, SHAPE) == 2 * (expected + stream * SHAPE.classes)


def test_the_operations_of_a_mixer_are_those_of_its_two_mlps():
    stream, tokens, channels, patch = 6, 5, 7, 2
    mixer = MODELS["mixer"](embed_dim=stream, token_hidden=tokens, channel_hidden=channels, layers=2, patch_size=patch)
    patches = (SHAPE.image_size // patch) ** 2
    blocks = 2 * (2 * patches * tokens * stream + 2 * stream * channels * patches)
    assert flops(mixer, SHAPE) == 2 * (patches * patch**2 * SHAPE.channels * stream + blocks + stream * SHAPE.classes)


@pytest.mark.parametrize(
    ("name", "multiply_adds"),
    [("resnet18", 1.81e9), ("resnet50", 4.09e9), ("vit_tiny_patch16_224", 1.26e9), ("convnext_tiny", 4.46e9)],
)
def test_the_operations_of_published_networks_are_the_published_ones(name, multiply_adds):
    with torch.device("meta"):
        architecture, shape = architecture_of(timm.create_model(name))
    assert flops(architecture, shape._replace(image_size=224)) == pytest.approx(2 * multiply_adds, rel=0.015)


@pytest.mark.parametrize(("family", "axis"), [(family, axis) for family in FAMILIES for axis in NETWORKS[family].axes])
def test_operations_grow_with_the_factor(family, axis):
    counts = [flops(NETWORKS[family].grown(axis, factor), SHAPE) for factor in (1.0, 2.0)]
    assert counts[0] < counts[1]


def test_operations_of_a_network_that_does_not_fit_its_images_are_undefined():
    for family, size in {"vit": 9, "mixer": 9, "convnext": 7}.items():
        with pytest.raises(UndefinedError):
            flops(NETWORKS[family], InputShape(1, size, 2))
