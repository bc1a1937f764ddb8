"""Networks of timm's own classes, small, and of timm's own factory, on the meta device."""

import timm
import torch
from timm.models.convnext import ConvNeXt
from timm.models.mlp_mixer import MlpMixer
from timm.models.resnet import BasicBlock, ResNet
from timm.models.vision_transformer import VisionTransformer


def stock(name, **changes):
    with torch.device("meta"):
        return timm.create_model(name, **changes)


def vit(**changes):
    options = {
        **{"img_size": 4, "patch_size": 2, "in_chans": 2, "num_classes": 3},
        **{"embed_dim": 6, "depth": 2, "num_heads": 2, "mlp_ratio": 2.0},
    }
    return VisionTransformer(**options | changes)


def mixer(**changes):
    options = {"img_size": 4, "patch_size": 2, "in_chans": 2, "num_classes": 3, "num_blocks": 2, "embed_dim": 6}
    return MlpMixer(**options | changes)


def convnext(**changes):
    options = {"in_chans": 2, "num_classes": 3, "depths": (1, 1, 2, 1), "dims": (2, 3, 4, 5)}
    return ConvNeXt(**options | changes)


def resnet(layers=(1, 1, 1, 1)):
    return ResNet(BasicBlock, layers, num_classes=3)
