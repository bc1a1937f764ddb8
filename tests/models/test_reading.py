"""`architecture_of`: a given network is read exactly, or refused with the part that does not fit."""

from collections import OrderedDict
from functools import partial

import pytest
import timm
import torch
from timm.layers import DropPath
from timm.models.resnet import ResNet
from timm.models.vision_transformer import ParallelScalingBlock, VisionTransformer
from torch import nn
from torchvision.models import resnet18

from mmbench.errors import UndefinedError
from mmbench.models.base import architecture_of
from mmbench.registry import MODELS
from models.networks import FAMILIES, SHAPE, small

SIZES = [
    *(size for family in FAMILIES for size in (small(family), small(family).widened(2.0), MODELS[family]())),
    MODELS["mlp"](hidden=(4,)),
    MODELS["resnet"](channels=(2, 3, 4, 5), layers=(1, 3, 2, 1)),
    MODELS["vit"](embed_dim=7, heads=7, hidden=61, layers=3, patch_size=1),
]


@pytest.mark.parametrize("architecture", SIZES, ids=repr)
def test_a_built_network_is_read_as_what_it_was_built_from(architecture):
    found, shape = architecture_of(architecture.build(SHAPE))
    assert found == architecture
    table, expected = found.table(shape), architecture.table(SHAPE)
    assert {name: table.shape(name) for name in table.tensors} == {n: expected.shape(n) for n in expected.tensors}
    if architecture.name == "vit":
        assert shape == SHAPE


def test_reading_leaves_the_random_state_and_the_network_alone():
    for family in FAMILIES:
        model = small(family).build(SHAPE)
        before, random = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
        architecture_of(model)
        assert torch.equal(torch.get_rng_state(), random)
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_a_model_of_timms_own_factory_is_read():
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2, num_classes=5).eval()
    model.set_grad_checkpointing()
    model.epochs_trained = 3
    architecture, shape = architecture_of(model)
    assert architecture == MODELS["vit"](embed_dim=192, heads=3, hidden=768, layers=2, patch_size=16)
    assert shape == (3, 32, 5)


def vit(**changes):
    options = {
        **{"img_size": 4, "patch_size": 2, "in_chans": 2, "num_classes": 3},
        **{"embed_dim": 6, "depth": 2, "num_heads": 2, "mlp_ratio": 2.0},
    }
    return VisionTransformer(**options | changes)


def altered(family, path, part):
    """The family's small network with one module or attribute replaced or added."""
    model = small(family).build(SHAPE)
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, part)
    return model


def with_buffer(family):
    model = small(family).build(SHAPE)
    model.register_buffer("seen", torch.zeros(2))
    return model


def mlp(*layers):
    return nn.Sequential(OrderedDict(layers))


class Scaled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


FLAT, FC1, FC2, HEAD = (
    ("flatten", nn.Flatten()),
    ("fc1", nn.Linear(32, 7)),
    ("fc2", nn.Linear(7, 7)),
    ("head", nn.Linear(7, 3)),
)
ACT1, ACT2 = ("act1", nn.ReLU()), ("act2", nn.ReLU())

VARIANTS = {
    "MLP with dropout": (lambda: mlp(FLAT, FC1, ACT1, ("drop", nn.Dropout(0.1)), HEAD), "'drop'"),
    "MLP with a norm": (lambda: mlp(FLAT, FC1, ("norm", nn.LayerNorm(7)), ACT1, HEAD), "'norm'"),
    "MLP with GELU": (lambda: altered("mlp", "act1", nn.GELU()), "'act1' has class = GELU, expected ReLU"),
    "MLP with a layer after the head": (lambda: altered("mlp", "scale", nn.Softmax(dim=1)), "'scale'"),
    "MLP with unnamed layers": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(32, 7), nn.ReLU(), nn.Linear(7, 3)),
        "'0'",
    ),
    "MLP without a bias": (lambda: altered("mlp", "fc2", nn.Linear(7, 5, bias=False)), "'fc2.bias' is missing"),
    "MLP with a layer of another class": (lambda: altered("mlp", "fc2", Scaled(7, 5)), "'fc2' has class = Scaled"),
    "MLP with layers in another order": (lambda: mlp(FLAT, FC1, FC2, ACT1, ACT2, HEAD), "'fc2' stands where 'act1'"),
    "MLP with sizes that do not chain": (lambda: altered("mlp", "fc2", nn.Linear(8, 5)), "'fc2' has in_features = 8"),
    "MLP that flattens from the second axis on": (
        lambda: altered("mlp", "flatten", nn.Flatten(2)),
        "'flatten' has start_dim",
    ),
    "MLP with a buffer": (lambda: with_buffer("mlp"), "'seen' is (2,), expected nothing"),
    "MLP wider than the family allows": (
        lambda: mlp(
            FLAT, ("fc1", nn.Linear(32, 65537, device="meta")), ACT1, ("head", nn.Linear(65537, 3, device="meta"))
        ),
        "less than or equal to 65536",
    ),
    "ResNet with another eps": (lambda: altered("resnet", "bn1", nn.BatchNorm2d(3, eps=1e-3)), "'bn1' has eps = 0.001"),
    "ResNet without running statistics": (
        lambda: altered("resnet", "bn1", nn.BatchNorm2d(3, track_running_stats=False)),
        "'bn1' has track_running_stats = False",
    ),
    "ResNet with stochastic depth": (
        lambda: altered("resnet", "stages.1.1.drop_path", DropPath(0.1)),
        "stages.1.1.drop_path",
    ),
    "ResNet with another stride": (
        lambda: altered("resnet", "conv1", nn.Conv2d(2, 3, 3, padding=1, stride=2, bias=False)),
        "'conv1' has stride = (2, 2)",
    ),
    "ResNet with SiLU": (lambda: altered("resnet", "stages.0.0.act2", nn.SiLU()), "'stages.0.0.act2' has class = SiLU"),
    "ViT with qk_norm": (lambda: vit(qk_norm=True), "'blocks.0.attn.q_norm' has class = LayerNorm, expected Identity"),
    "ViT with LayerScale": (lambda: vit(init_values=1e-5), "'blocks.0.ls1' has class = LayerScale"),
    "ViT with dropout": (lambda: vit(proj_drop_rate=0.1), "'blocks.0.attn.proj_drop' has p = 0.1, expected 0.0"),
    "ViT with stochastic depth": (lambda: vit(drop_path_rate=0.1), "'blocks.1.drop_path1'"),
    "ViT with patch dropout": (lambda: vit(patch_drop_rate=0.1), "'patch_drop'"),
    "ViT with another eps": (
        lambda: vit(norm_layer=partial(nn.LayerNorm, eps=1e-5)),
        "'blocks.0.norm1' has eps = 1e-05",
    ),
    "ViT with ReLU": (lambda: vit(act_layer=nn.ReLU), "'blocks.0.mlp.act' has class = ReLU, expected GELU"),
    "ViT without qkv bias": (lambda: vit(qkv_bias=False), "'blocks.0.attn.qkv.bias' is missing"),
    "ViT with average pooling": (lambda: vit(global_pool="avg"), "global_pool = avg, expected token"),
    # The same modules and tensors as the plain network: only an attribute tells them apart.
    "ViT with average pooling after the norm": (lambda: vit(global_pool="avg", fc_norm=False), "global_pool = avg"),
    "ViT of any image size": (lambda: vit(dynamic_img_size=True), "dynamic_img_size = True"),
    "ViT with other heads in one block": (
        lambda: altered("vit", "blocks.1.attn.num_heads", 3),
        "'blocks.1.attn' has num_heads = 3",
    ),
    "ViT with another attention scale": (lambda: altered("vit", "blocks.1.attn.scale", 0.5), "has scale = 0.5"),
    "ViT with registers": (lambda: vit(reg_tokens=2), "num_prefix_tokens = 3"),
    "ViT with a pre-norm": (lambda: vit(pre_norm=True), "'norm_pre'"),
    "ViT without a classifier": (lambda: vit(num_classes=0), "'head.bias' is missing"),
    "ViT with an extra layer": (lambda: altered("vit", "neck", nn.Linear(6, 6)), "'neck'"),
    "ViT of parallel blocks": (
        lambda: vit(block_fn=ParallelScalingBlock),
        "'ParallelScalingBlock' object has no attribute",
    ),
    "timm's ResNet": (lambda: ResNet(timm.models.resnet.BasicBlock, (1, 1, 1, 1)), "a ResNet belongs to no family"),
    "torchvision's ResNet": (
        lambda: resnet18(),
        "belongs to no family that can be expanded (families: mlp, resnet, vit)",
    ),
    "one linear layer": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), "belongs to no family"),
    "a wrapped network": (lambda: nn.ModuleList([small("vit").build(SHAPE)]), "a ModuleList belongs to no family"),
}


@pytest.mark.parametrize(("build", "part"), VARIANTS.values(), ids=VARIANTS.keys())
def test_a_variant_is_refused_and_the_part_named(build, part):
    with pytest.raises(UndefinedError) as caught:
        architecture_of(build())
    assert part in str(caught.value)
