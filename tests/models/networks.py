"""A small network of every registered family, with weights of order one: fresh ones make every comparison vacuous."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmbench.data.base import InputShape
from mmbench.models.base import MODELS, Architecture

SHAPE = InputShape(channels=2, image_size=8, classes=3)
SMALL = {
    "mlp": {"hidden": (7, 5)},
    "resnet": {"channels": (3, 5), "layers": (1, 2)},
    "vit": {"embed_dim": 6, "heads": 2, "hidden": 7, "layers": 2, "patch_size": 4},
    "mixer": {"embed_dim": 6, "token_hidden": 5, "channel_hidden": 7, "layers": 2, "patch_size": 4},
    "convnext": {"channels": (3, 4, 5, 6), "layers": (1, 2, 1, 1), "hidden": (5, 6, 7, 8), "kernel_size": 3},
}
FAMILIES = MODELS.names()
VIT, CONVNEXT = SMALL["vit"], SMALL["convnext"]
SEVEN = {"channels": (6, 8, 10, 12), "layers": (1, 2, 1, 1), "stem": "7x7"}
LARGE = InputShape(channels=2, image_size=32, classes=3)
VARIANTS = {
    "MLP of four layers": (MODELS["mlp"](hidden=(9, 6, 5, 4)), SHAPE),
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
    "Mixer with another eps": (MODELS["mixer"](**SMALL["mixer"] | {"layers": 1, "eps": 1e-3}), SHAPE),
    "ConvNeXt of 1x1 convolutions": (MODELS["convnext"](**CONVNEXT, conv_mlp=True), SHAPE),
    "ConvNeXt without layer scale": (MODELS["convnext"](**CONVNEXT, layer_scale=False, eps=1e-5), SHAPE),
    "ConvNeXt with hidden units that follow": (MODELS["convnext"](channels=(4, 3, 5, 4), kernel_size=5), SHAPE),
    "ConvNeXt with patches of 2": (MODELS["convnext"](**CONVNEXT, patch_size=2), LARGE),
    "ConvNeXt with patches of 4": (MODELS["convnext"](**CONVNEXT, patch_size=4, conv_mlp=True), LARGE),
}
"""Networks that use every option of their families, with the shape of their images."""


def small(family: str) -> Architecture:
    """Sizes that are odd where they can be; a family that is not listed is taken with its defaults."""
    return MODELS[family](**SMALL.get(family, {}))


def randomise(model: nn.Module) -> nn.Module:
    """Draw all weights, biases and running statistics anew, so that activations, logits and their changes are O(1)."""
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("num_batches_tracked"):
                tensor.fill_(7)
            elif name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif name.endswith("weight") and tensor.dim() > 1:
                tensor.normal_(std=1.5 * tensor[0].numel() ** -0.5)
            else:
                tensor.normal_(mean=float(name.endswith("weight")), std=0.5)
    return model


def network(
    architecture: Architecture, dtype: torch.dtype = torch.float64, seed: int = 0, shape: InputShape = SHAPE
) -> nn.Module:
    """A network with weights of order one, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return randomise(architecture.build(shape).to(dtype)).eval()


def images(count: int = 16, dtype: torch.dtype = torch.float64, seed: int = 1, shape: InputShape = SHAPE) -> Tensor:
    """Standard normal pixels (N, C, H, W)."""
    size = (count, shape.channels, shape.image_size, shape.image_size)
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def difference(a: nn.Module, b: nn.Module, *, train: bool = False) -> float:
    """The largest |difference| of logits; in training mode both see the same batch and update their statistics."""
    x = images(dtype=next(a.parameters()).dtype)
    with torch.no_grad():
        return float((a.train(train)(x) - b.train(train)(x)).abs().max())


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """The shapes of a network's state dict."""
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
