"""`architecture_of`: a network that a family does not describe is refused, and the part that does not fit is named."""

from collections import OrderedDict
from functools import partial

import pytest
import torch
from timm.models.vision_transformer import ParallelScalingBlock
from torch import nn
from torchvision.models import resnet18

from mmbench.errors import UndefinedError
from mmbench.models.reading import architecture_of
from mmbench.testing.models import NETWORKS, SHAPE
from tests.models.stock import convnext, mixer, resnet, stock, vit


def altered(family, path, part):
    """The family's small network with one module or attribute replaced or added."""
    model = NETWORKS[family].build(SHAPE)
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, part)
    return model


def with_buffer(family):
    model = NETWORKS[family].build(SHAPE)
    model.register_buffer("seen", torch.zeros(2))
    return model


def mlp(*layers):
    return nn.Sequential(OrderedDict(layers))


class Scaled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


class Linear(nn.Linear):
    """Another class of the same name."""

    def forward(self, x):
        return 2 * super().forward(x)


def with_forward_replaced():
    model = NETWORKS["mlp"].build(SHAPE)
    model.fc2.forward = torch.zeros_like
    return model


FLAT, FC1, FC2, HEAD = (
    ("flatten", nn.Flatten()),
    ("fc1", nn.Linear(32, 7)),
    ("fc2", nn.Linear(7, 7)),
    ("head", nn.Linear(7, 3)),
)
ACT1, ACT2 = ("act1", nn.ReLU()), ("act2", nn.ReLU())
WIDE = ("fc1", nn.Linear(32, 65537, device="meta")), ACT1, ("head", nn.Linear(65537, 3, device="meta"))
NO_CLASSIFIER = "it has no classifier (num_classes = 0)"
REFUSED = {
    "MLP with dropout": (lambda: mlp(FLAT, FC1, ACT1, ("drop", nn.Dropout(0.5)), HEAD), "'drop' where 'head'"),
    "MLP with GELU": (lambda: mlp(FLAT, FC1, ("act1", nn.GELU()), HEAD), "'act1' has class = GELU, expected ReLU"),
    "MLP with other names": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(32, 7), nn.ReLU(), nn.Linear(7, 3)), "'0'"),
    "MLP without a bias": (lambda: altered("mlp", "fc2", nn.Linear(7, 5, bias=False)), "'fc2.bias' is missing"),
    "MLP with a layer of another class": (
        lambda: altered("mlp", "fc2", Scaled(7, 5)),
        "'fc2' has class = tests.models.test_refusing.Scaled",
    ),
    "MLP with layers in another order": (lambda: mlp(FLAT, FC1, FC2, ACT1, ACT2, HEAD), "'fc2' where 'act1'"),
    "MLP with sizes that do not chain": (lambda: altered("mlp", "fc2", nn.Linear(8, 5)), "'fc2' has in_features = 8"),
    "MLP that flattens from the second axis on": (lambda: altered("mlp", "flatten", nn.Flatten(2)), "has start_dim"),
    "MLP with a buffer": (lambda: with_buffer("mlp"), "'seen' is (2,), expected nothing"),
    "MLP wider than the family allows": (lambda: mlp(FLAT, *WIDE), "less than or equal to 65536"),
    "ResNet with another eps": (lambda: altered("resnet", "bn1", nn.BatchNorm2d(3, eps=1e-3)), "'bn1' has eps = 0.001"),
    "ResNet without running statistics": (
        lambda: altered("resnet", "bn1", nn.BatchNorm2d(3, track_running_stats=False)),
        "'bn1' has track_running_stats = False",
    ),
    "ResNet with another stride": (
        lambda: altered("resnet", "conv1", nn.Conv2d(2, 3, 3, padding=1, stride=2, bias=False)),
        "'conv1' has stride = (2, 2)",
    ),
    "ResNet with SiLU": (lambda: altered("resnet", "stages.0.0.act2", nn.SiLU()), "'stages.0.0.act2' has class = SiLU"),
    "ResNet with another kernel in one block": (
        lambda: altered("resnet", "stages.1.1.conv2", nn.Conv2d(5, 5, 5, padding=2, bias=False)),
        "'stages.1.1.conv2' has kernel_size = (5, 5), expected (3, 3)",
    ),
    "ResNet with kernels larger than the family allows": (
        lambda: altered("resnet", "stages.0.0.conv2", nn.Conv2d(3, 3, 33, padding=16, bias=False)),
        "has kernel_size = 33",
    ),
    "ResNet with even kernels": (
        lambda: altered("resnet", "stages.0.0.conv2", nn.Conv2d(3, 3, 4, padding=2, bias=False)),
        "model.kernel_size = 4 must be odd",
    ),
    "resnet50d": (lambda: stock("resnet50d"), "module 'conv1' has class = Sequential, expected Conv2d"),
    "resnext50_32x4d": (lambda: stock("resnext50_32x4d"), "'layer1.0.conv2' has groups = 32, expected 1"),
    "seresnet50": (lambda: stock("seresnet50"), "'layer1.0.se' where 'layer1.0.act3' is expected"),
    "resnet50_gn": (lambda: stock("resnet50_gn"), "'bn1' has class = GroupNorm, expected BatchNorm2d"),
    "resnetaa50": (lambda: stock("resnetaa50"), "'maxpool' has class = AvgPool2d, expected MaxPool2d"),
    "resnet18 with maximum pooling": (
        lambda: stock("resnet18", global_pool="max"),
        "has pool_type = max, expected avg",
    ),
    "resnet18 of a smaller stride": (lambda: stock("resnet18", output_stride=8), "has stride = 1, expected 2"),
    "ViT with qk_norm": (lambda: vit(qk_norm=True), "'blocks.0.attn.q_norm' has class = LayerNorm, expected Identity"),
    "ViT with a norm in its attention": (lambda: vit(scale_attn_norm=True), "'blocks.0.attn.norm' has class ="),
    "ViT with another eps in one norm": (lambda: altered("vit", "norm", nn.LayerNorm(6)), "'norm' has eps = 1e-05"),
    "ViT with RMS norms": (lambda: vit(norm_layer="rmsnorm"), "'blocks.0.norm1' has class = RmsNorm"),
    "ViT without scales in its norms": (
        lambda: vit(norm_layer=partial(nn.LayerNorm, elementwise_affine=False)),
        "'blocks.0.norm1' has elementwise_affine = False",
    ),
    "ViT without a last norm": (lambda: vit(final_norm=False), "'norm' has class = Identity, expected LayerNorm"),
    "ViT with ReLU": (lambda: vit(act_layer=nn.ReLU), "'blocks.0.mlp.act' has class = ReLU, expected GELU"),
    "ViT without a bias after attention": (lambda: vit(proj_bias=False), "'blocks.0.attn.proj.bias' is missing"),
    "ViT without positions": (lambda: vit(pos_embed="none"), "'pos_embed' is missing"),
    # The same modules and tensors as the plain network: only an attribute tells them apart.
    "ViT that pools over its class token, too": (
        lambda: vit(global_pool="avg", pool_include_prefix=True),
        "pool_include_prefix = True, expected False",
    ),
    "ViT with maximum pooling": (lambda: vit(global_pool="max"), "global_pool = max, expected avg"),
    "ViT with attention pooling": (
        lambda: vit(global_pool="map", class_token=False),
        "global_pool = map, expected avg; the family has no module 'attn_pool'",
    ),
    "ViT of oblong images": (lambda: vit(img_size=(4, 6)), "module 'patch_embed' has img_size = (4, 6)"),
    "ViT of oblong patches": (
        lambda: vit(patch_size=(2, 4)),
        "'patch_embed' has img_size = (4, 4) and patch_size = (2, 4)",
    ),
    "ViT with patches that leave a rest": (lambda: vit(img_size=5), "'patch_embed' has img_size = (5, 5)"),
    "ViT with other heads in one block": (
        lambda: altered("vit", "blocks.1.attn.num_heads", 3),
        "'blocks.1.attn' has num_heads = 3",
    ),
    "ViT with another attention scale": (lambda: altered("vit", "blocks.1.attn.scale", 0.5), "has scale = 0.5"),
    "ViT without a classifier": (lambda: vit(num_classes=0), NO_CLASSIFIER),
    "ViT with an extra layer": (lambda: altered("vit", "neck", nn.Linear(6, 6)), "'neck'"),
    "ViT of parallel blocks": (
        lambda: vit(block_fn=ParallelScalingBlock),
        "'blocks.0' has class = ParallelScalingBlock, expected Block",
    ),
    "ViT without blocks": (lambda: vit(depth=0), "a VisionTransformer belongs to no family"),
    "vit_base_patch16_siglip_224": (lambda: stock("vit_base_patch16_siglip_224"), NO_CLASSIFIER),
    "vit_small_patch14_dinov2": (lambda: stock("vit_small_patch14_dinov2"), NO_CLASSIFIER),
    "deit_tiny_distilled_patch16_224": (
        lambda: stock("deit_tiny_distilled_patch16_224"),
        "expected VisionTransformer; the family has no module 'head_dist'",
    ),
    "vit_base_patch16_rpn_224": (
        lambda: stock("vit_base_patch16_rpn_224"),
        "'blocks.0' has class = ResPostBlock, expected Block",
    ),
    "gmixer_12_224": (lambda: stock("gmixer_12_224"), "'blocks.0.mlp_tokens' has class = GluMlp, expected Mlp"),
    "resmlp_12_224": (lambda: stock("resmlp_12_224"), "'blocks.0' has class = ResBlock, expected MixerBlock"),
    "gmlp_s16_224": (lambda: stock("gmlp_s16_224"), "'blocks.0' has class = SpatialGatingBlock, expected MixerBlock"),
    "Mixer with a norm in its stem": (lambda: mixer(stem_norm=True), "'stem.norm' has class = LayerNorm"),
    "Mixer without pooling": (lambda: mixer(global_pool=""), "it has global_pool = , expected avg"),
    "Mixer of oblong images": (
        lambda: mixer(img_size=(4, 6)),
        "'stem' has img_size = (4, 6) and patch_size = (2, 2), expected squares",
    ),
    "Mixer without a classifier": (lambda: mixer(num_classes=0), NO_CLASSIFIER),
    "convnextv2_atto": (lambda: stock("convnextv2_atto"), "'stages.0.blocks.0.mlp' has class = GlobalResponseNormMlp"),
    "convnext_atto_ols": (lambda: stock("convnext_atto_ols"), "'stem' has 3 layers, expected a patch convolution and"),
    "convnext_atto_rms": (lambda: stock("convnext_atto_rms"), "'stem.1' has class = RmsNorm2d, expected LayerNorm2d"),
    "convnext_tiny_hnf": (lambda: stock("convnext_tiny_hnf"), "'norm_pre' has class = LayerNorm2d, expected Identity"),
    "ConvNeXt with kernels of several sizes": (
        lambda: convnext(kernel_sizes=(7, 5, 5, 5)),
        "'stages.1.blocks.0.conv_dw' has kernel_size = (5, 5), expected (7, 7)",
    ),
    "ConvNeXt with even kernels": (lambda: convnext(kernel_sizes=6), "model.kernel_size = 6 must be odd"),
    "ConvNeXt with dilation": (lambda: convnext(output_stride=16), "'stages.3.downsample.1' has class = Conv2dSame"),
    "ConvNeXt with ReLU": (lambda: convnext(act_layer="relu"), "'stages.0.blocks.0.mlp.act' has class = ReLU"),
    "ConvNeXt without biases": (lambda: convnext(conv_bias=False), "'stages.0.blocks.0.conv_dw.bias' is missing"),
    "ConvNeXt with an empty stage": (
        lambda: convnext(depths=(1, 1, 0, 1)),
        "module 'stages.2', a stage, has no blocks",
    ),
    "ConvNeXt with a head of two layers": (
        lambda: convnext(head_hidden_size=7),
        "'head.pre_logits' has class = Sequential, expected Identity",
    ),
    "ConvNeXt without a classifier": (lambda: convnext(num_classes=0), NO_CLASSIFIER),
    "torchvision's ResNet": (lambda: resnet18(), "(families: cnn, convnext, mixer, mlp, resnet, vit)"),
    "one linear layer": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), "belongs to no family"),
    "a wrapped network": (lambda: nn.ModuleList([NETWORKS["vit"].build(SHAPE)]), "a ModuleList belongs to no family"),
}


@pytest.mark.parametrize(("make", "part"), REFUSED.values(), ids=REFUSED.keys())
def test_a_variant_is_refused_and_the_part_named(make, part):
    with pytest.raises(UndefinedError) as caught:
        architecture_of(make())
    assert part in str(caught.value)


GAPS = {
    "a layer of another class of the same name": (lambda: altered("mlp", "fc2", Linear(7, 5)), "'fc2'"),
    "a layer whose forward was replaced": (with_forward_replaced, "'fc2'"),
    "timm's ResNet with an empty stage": (lambda: resnet((1, 0, 1, 1)), "no blocks"),
    "timm's ResNet without a classifier": (lambda: stock("resnet18", num_classes=0), NO_CLASSIFIER),
}


@pytest.mark.parametrize(("make", "part"), GAPS.values(), ids=GAPS.keys())
def test_what_should_be_refused_with_the_part_named(make, part):
    with pytest.raises(UndefinedError) as caught:
        architecture_of(make())
    assert part in str(caught.value)


@pytest.mark.parametrize("family", ["resnet", "convnext"])
def test_the_message_about_sizes_that_do_not_fit_together_is_short(family):
    with pytest.raises(UndefinedError) as caught:
        NETWORKS[family].of({**NETWORKS[family].sizes(), "kernel_size": 4})
    assert "model.kernel_size = 4 must be odd" in str(caught.value)
    assert "{" not in str(caught.value)
