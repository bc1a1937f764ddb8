"""Networks that together use every option of every family."""

from __future__ import annotations

from mmbench.data.base import InputShape
from mmbench.models.base import MODELS
from mmbench.testing.cells import FAMILIES
from mmbench.testing.models import NETWORKS, SHAPE, SMALL

RESNET, VIT, MIXER, CONVNEXT = (SMALL[family] for family in ("resnet", "vit", "mixer", "convnext"))
SEVEN = {"channels": (6, 8, 10, 12), "layers": (1, 2, 1, 1), "stem": "7x7"}
LARGE = InputShape(channels=2, image_size=32, classes=3)
VARIANTS = {
    "MLP of four layers": (MODELS["mlp"](hidden=(9, 6, 5, 4)), SHAPE),
    "CNN with two pools": (MODELS["cnn"](channels=(3, 4, 2), pools=(1, 3), hidden=(5, 4)), SHAPE),
    "CNN of 5x5 convolutions without pools": (
        MODELS["cnn"](channels=(4, 3), pools=(), hidden=(5,), kernel_size=5),
        SHAPE,
    ),
    "ResNet with wide blocks": (MODELS["resnet"](channels=(3, 5), layers=(1, 2), inner=(4, 7)), SHAPE),
    "ResNet with 5x5 blocks": (MODELS["resnet"](channels=(3, 2), layers=(2, 1), kernel_size=5), SHAPE),
    "ResNet of bottlenecks": (MODELS["resnet"](block="bottleneck", channels=(3, 2), layers=(1, 2)), SHAPE),
    "ResNet of wide 5x5 bottlenecks": (
        MODELS["resnet"](block="bottleneck", channels=(2, 3), layers=(2, 1), inner=(5, 4), kernel_size=5),
        SHAPE,
    ),
    "ResNet with a 7x7 stem": (MODELS["resnet"](**SEVEN), LARGE),
    "ResNet with a 7x7 stem of 64 channels": (
        MODELS["resnet"](**SEVEN | {"channels": (64, 3, 4, 5), "inner": (5, 4, 3, 2), "kernel_size": 5}),
        LARGE,
    ),
    "ResNet of wide bottlenecks with a 7x7 stem": (
        MODELS["resnet"](**SEVEN, block="bottleneck", inner=(3, 5, 2, 4), kernel_size=5),
        LARGE,
    ),
    "ResNet with timm's names and a small stem": (
        MODELS["resnet"](**SEVEN, stem_kernel=3, stem_stride=1, stem_pool=False),
        SHAPE,
    ),
    "ResNet with a 5x5 stem of stride 1 and a max-pool": (
        MODELS["resnet"](**SEVEN, stem_kernel=5, stem_stride=1),
        LARGE,
    ),
    "ViT with average pooling after the norm": (MODELS["vit"](**VIT, pool="avg", fc_norm=False), SHAPE),
    "ViT with a norm after the class token": (MODELS["vit"](**VIT, fc_norm=True, eps=1e-2), SHAPE),
    "ViT with large heads": (MODELS["vit"](**VIT, head_dim=5), SHAPE),
    "ViT with heads that do not divide the stream": (MODELS["vit"](**VIT | {"heads": 4, "head_dim": 2}), SHAPE),
    "ViT with average pooling": (MODELS["vit"](**VIT, pool="avg"), SHAPE),
    "ViT without a class token": (MODELS["vit"](**VIT, pool="avg", class_token=False), SHAPE),
    "ViT with registers": (MODELS["vit"](**VIT | {"layers": 3}, registers=2), SHAPE),
    "ViT whose tokens have no positions": (MODELS["vit"](**VIT, registers=3, embed_prefix=False), SHAPE),
    "ViT with a pre-norm": (MODELS["vit"](**VIT, pre_norm=True, eps=1e-5), SHAPE),
    "ViT without qkv bias": (MODELS["vit"](**VIT, qkv_bias=False, head_dim=4), SHAPE),
    "ViT with layer scale": (MODELS["vit"](**VIT, layer_scale=True), SHAPE),
    "ViT with registers only": (
        MODELS["vit"](**VIT, pool="avg", class_token=False, registers=2, embed_prefix=False, layer_scale=True),
        SHAPE,
    ),
    "Mixer with another eps": (MODELS["mixer"](**MIXER | {"layers": 1, "eps": 1e-3}), SHAPE),
    "ConvNeXt of 1x1 convolutions": (MODELS["convnext"](**CONVNEXT, conv_mlp=True), SHAPE),
    "ConvNeXt without layer scale": (MODELS["convnext"](**CONVNEXT, layer_scale=False, eps=1e-5), SHAPE),
    "ConvNeXt with hidden units that follow": (MODELS["convnext"](channels=(4, 3, 5, 4), kernel_size=5), SHAPE),
    "ConvNeXt with patches of 2": (MODELS["convnext"](**CONVNEXT, patch_size=2), LARGE),
    "ConvNeXt with patches of 4": (MODELS["convnext"](**CONVNEXT, patch_size=4, conv_mlp=True), LARGE),
}
"""Networks that use every option of their families, with the shape of their images."""
CASES = {**{f"small {family}": (NETWORKS[family], SHAPE) for family in FAMILIES}, **VARIANTS}
