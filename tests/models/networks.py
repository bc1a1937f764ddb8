"""A small network of every registered family, with weights of order one: fresh ones make every comparison vacuous."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmbench.data.base import InputShape
from mmbench.models.base import Architecture
from mmbench.registry import MODELS

SHAPE = InputShape(channels=2, image_size=8, classes=3)
SMALL = {
    "mlp": {"hidden": (7, 5)},
    "resnet": {"channels": (3, 5), "layers": (1, 2)},
    "vit": {"embed_dim": 6, "heads": 2, "hidden": 7, "layers": 2, "patch_size": 4},
    "mixer": {"embed_dim": 6, "token_hidden": 5, "channel_hidden": 7, "layers": 2, "patch_size": 4},
    "convnext": {"channels": (3, 4, 5, 6), "layers": (1, 2, 1, 1), "hidden": (5, 6, 7, 8), "kernel_size": 3},
}
FAMILIES = MODELS.names()


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


def network(architecture: Architecture, dtype: torch.dtype = torch.float64, seed: int = 0) -> nn.Module:
    """A network with weights of order one, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return randomise(architecture.build(SHAPE).to(dtype)).eval()


def images(count: int = 16, dtype: torch.dtype = torch.float64, seed: int = 1) -> Tensor:
    """Standard normal pixels (N, C, H, W)."""
    size = (count, SHAPE.channels, SHAPE.image_size, SHAPE.image_size)
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def difference(a: nn.Module, b: nn.Module, *, train: bool = False) -> float:
    """The largest |difference| of logits; in training mode both see the same batch and update their statistics."""
    x = images(dtype=next(a.parameters()).dtype)
    with torch.no_grad():
        return float((a.train(train)(x) - b.train(train)(x)).abs().max())
