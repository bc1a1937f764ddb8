"""A given network is read exactly, and what is read makes the same network again."""

import copy
from functools import partial

import pytest
import timm
import torch
from torch import nn

from mmbench.errors import ConfigError, UndefinedError
from mmbench.models.base import MODELS
from mmbench.models.reading import architecture_of, build, configuration
from mmbench.testing.cells import FAMILIES
from mmbench.testing.models import NETWORKS, SHAPE, images, network, state_shapes
from tests.models.stock import convnext, mixer, stock, vit


@pytest.mark.parametrize("family", ["vit", "mixer"])
def test_the_image_size_is_read_where_it_enters_the_weights(family):
    assert architecture_of(NETWORKS[family].build(SHAPE))[1] == SHAPE


@pytest.mark.parametrize("family", ["resnet", "convnext"])
def test_the_channels_of_the_images_are_read(family):
    assert architecture_of(NETWORKS[family].build(SHAPE))[1].channels == SHAPE.channels


WRONG = {
    "nothing": (
        lambda c: {},
        "is a dictionary of model (its name and options) and shape (channels, image_size, classes, all integers >= 1)",
    ),
    "no model": (lambda c: {"shape": c["shape"]}, "this one is {'shape'"),
    "an extra entry": (lambda c: {**c, "weights": 1}, "'weights': 1"),
    "a shape without classes": (lambda c: {**c, "shape": {"channels": 2, "image_size": 8}}, "(channels, image_size"),
    "a model without a name": (
        lambda c: {**c, "model": {}},
        "model.name is missing; allowed: cnn, convnext, mixer, mlp",
    ),
    "an unknown model": (
        lambda c: {**c, "model": {"name": "wit"}},
        "model.name = 'wit' is unknown; did you mean 'vit'",
    ),
    "an unknown option": (
        lambda c: {**c, "model": {"name": "vit", "stem": 1}},
        "option model.stem = 'stem' is unknown",
    ),
    "a wrong option": (lambda c: {**c, "model": {"name": "vit", "eps": -1.0}}, "model.eps = -1.0 is not allowed"),
    "options that do not fit": (lambda c: {**c, "model": {"name": "vit", "heads": 3, "embed_dim": 4}}, "a multiple of"),
}


@pytest.mark.parametrize(("change", "message"), WRONG.values(), ids=WRONG.keys())
def test_what_is_no_configuration_is_refused(change, message):
    right = configuration(NETWORKS["vit"].build(SHAPE))
    with pytest.raises(ConfigError) as caught:
        build(change(right))
    assert message in str(caught.value)


@pytest.mark.parametrize("family", FAMILIES)
def test_reading_leaves_the_random_state_and_the_network_alone(family):
    model = network(NETWORKS[family]).train()
    state = copy.deepcopy(model.state_dict())
    modules, random = [*model.named_modules()], torch.get_rng_state()
    configuration(model)
    assert torch.equal(torch.get_rng_state(), random)
    assert [*model.named_modules()] == modules
    assert model.state_dict().keys() == state.keys()
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("register", ["register_forward_hook", "register_forward_pre_hook"])
def test_a_network_with_forward_hooks_is_refused_until_they_are_gone(family, register):
    model = NETWORKS[family].build(SHAPE)
    name, module = [*model.named_modules()][-1]
    for hooked, where in ((module, f"module {name!r} has forward hooks"), (model, "it has forward hooks")):
        handle = getattr(hooked, register)(lambda *_: None)
        with pytest.raises(UndefinedError, match=where):
            architecture_of(model)
        handle.remove()
    assert architecture_of(model)[0] == NETWORKS[family]


RESNET50 = {"block": "bottleneck", "channels": (64, 128, 256, 512), "layers": (3, 4, 6, 3), "stem": "7x7"}
DEIT = {"embed_dim": 384, "heads": 6, "hidden": 1536, "layers": 12, "patch_size": 16}
GAP = {"embed_dim": 320, "heads": 5, "hidden": 1792, "layers": 14, "patch_size": 16, "registers": 4}
STOCK = {
    "resnet18": (MODELS["resnet"](**RESNET50 | {"block": "basic", "layers": (2, 2, 2, 2)}), 224),
    "resnet50": (MODELS["resnet"](**RESNET50), 224),
    "wide_resnet50_2": (MODELS["resnet"](**RESNET50, inner=(128, 256, 512, 1024)), 224),
    "vit_tiny_patch16_224": (MODELS["vit"](embed_dim=192, heads=3, hidden=768, layers=12, patch_size=16), 224),
    "deit3_small_patch16_224": (MODELS["vit"](**DEIT, embed_prefix=False, layer_scale=True), 224),
    "vit_base_patch32_clip_224": (
        MODELS["vit"](embed_dim=768, heads=12, hidden=3072, layers=12, patch_size=32, pre_norm=True, eps=1e-5),
        224,
    ),
    "vit_little_patch16_reg4_gap_256": (
        MODELS["vit"](**GAP, pool="avg", class_token=False, embed_prefix=False, layer_scale=True),
        256,
    ),
    "mixer_s32_224": (
        MODELS["mixer"](embed_dim=512, token_hidden=256, channel_hidden=2048, layers=8, patch_size=32),
        224,
    ),
    "convnext_atto": (
        MODELS["convnext"](channels=(40, 80, 160, 320), layers=(2, 2, 6, 2), patch_size=4, conv_mlp=True),
        128,
    ),
    "convnext_tiny": (MODELS["convnext"](channels=(96, 192, 384, 768), layers=(3, 3, 9, 3), patch_size=4), 128),
}


@pytest.mark.parametrize(("name", "architecture", "size"), [(name, *read) for name, read in STOCK.items()])
def test_a_model_of_timms_own_factory_is_read(name, architecture, size):
    model = stock(name, num_classes=5)
    with torch.device("meta"):
        assert architecture_of(model) == (architecture, (3, size, 5))
        assert state_shapes(build(configuration(model))) == state_shapes(model)


def test_what_training_changes_in_a_model_is_no_obstacle():
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2, num_classes=5, in_chans=1).eval()
    model.set_grad_checkpointing()
    model.epochs_trained = 3
    model.head.requires_grad_(False)
    architecture, shape = architecture_of(model)
    assert architecture == MODELS["vit"](embed_dim=192, heads=3, hidden=768, layers=2, patch_size=16)
    assert shape == (1, 32, 5)


READ = {
    "ViT with LayerScale": (lambda: vit(init_values=1e-5), {"layer_scale": True}),
    "ViT with another eps": (lambda: vit(norm_layer=partial(nn.LayerNorm, eps=1e-5)), {"eps": 1e-5}),
    "ViT without qkv bias": (lambda: vit(qkv_bias=False), {"qkv_bias": False}),
    "ViT with average pooling": (lambda: vit(global_pool="avg"), {"pool": "avg"}),
    "ViT without a class token": (
        lambda: vit(global_pool="avg", class_token=False),
        {"pool": "avg", "class_token": False},
    ),
    "ViT with registers": (lambda: vit(reg_tokens=2), {"registers": 2}),
    "ViT with a pre-norm": (lambda: vit(pre_norm=True), {"pre_norm": True}),
    "ViT whose class token has no position": (lambda: vit(no_embed_class=True), {"embed_prefix": False}),
    "ViT with another initialisation": (lambda: vit(weight_init="jax", fix_init=True), {}),
    "Mixer": (mixer, {"embed_dim": 6, "token_hidden": 3, "channel_hidden": 24}),
    "Mixer with another eps": (lambda: mixer(norm_layer=partial(nn.LayerNorm, eps=1e-5)), {"eps": 1e-5}),
    "Mixer with other hidden units": (lambda: mixer(mlp_ratio=(1.5, 0.5)), {"token_hidden": 9, "channel_hidden": 3}),
    "ConvNeXt": (convnext, {"channels": (2, 3, 4, 5), "layers": (1, 1, 2, 1), "hidden": None, "patch_size": 4}),
    "ConvNeXt with 5x5 kernels": (lambda: convnext(kernel_sizes=5, patch_size=2), {"kernel_size": 5, "patch_size": 2}),
    "ConvNeXt without LayerScale": (lambda: convnext(ls_init_value=None), {"layer_scale": False}),
    "ConvNeXt with another eps": (lambda: convnext(norm_eps=1e-5), {"eps": 1e-5}),
    "ConvNeXt of convolutions": (lambda: convnext(conv_mlp=True), {"conv_mlp": True}),
}


@pytest.mark.parametrize(("make", "expected"), READ.values(), ids=READ.keys())
def test_a_variant_of_timms_classes_is_read_and_rebuilt(make, expected):
    model = make().eval()
    architecture, shape = architecture_of(model)
    sizes = dict(architecture)
    assert {key: sizes[key] for key in expected} == expected
    twin = build(configuration(model)).eval()
    twin.load_state_dict(model.state_dict(), strict=True)
    x = images(2, torch.float32, shape=shape)
    with torch.no_grad():
        assert torch.equal(twin(x), model(x))


SHAPES = {
    "negative pixels": {"channels": 2, "image_size": -8, "classes": 3},
    "no channels": {"channels": 0, "image_size": 8, "classes": 3},
    "no classes": {"channels": 2, "image_size": 8, "classes": 0},
    "text": {"channels": "2", "image_size": 8, "classes": 3},
    "a fraction": {"channels": 2, "image_size": 8.0, "classes": 3},
    "a list": [2, 8, 3],
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_a_configuration_with_a_wrong_shape_is_refused(shape):
    with pytest.raises(ConfigError):
        build({**configuration(NETWORKS["vit"].build(SHAPE)), "shape": shape})


@pytest.mark.parametrize("wrong", [None, [1], {"model": None, "shape": SHAPE._asdict()}], ids=str)
def test_what_is_no_dictionary_is_no_configuration(wrong):
    with pytest.raises(ConfigError):
        build(wrong)
