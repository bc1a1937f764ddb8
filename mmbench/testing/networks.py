"""Small networks of every family with random weights, and images for them."""

from __future__ import annotations

import copy
import random
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import nn

from mmbench.data.base import InputShape, Split
from mmbench.models.base import MODELS

SMALL: dict[str, dict[str, Any]] = {
    "mlp": {"hidden": (6, 5)},
    "cnn": {"channels": (3, 4), "hidden": (6,)},
    "resnet": {"channels": (3, 4), "layers": (1, 1)},
    "vit": {"embed_dim": 6, "heads": 2, "hidden": 8, "layers": 1, "patch_size": 4},
    "mixer": {"embed_dim": 6, "token_hidden": 5, "channel_hidden": 8, "layers": 1, "patch_size": 4},
    "convnext": {"channels": (4, 5, 6, 7), "hidden": (5, 6, 7, 8), "kernel_size": 3, "eps": 0.01},
}
"""Sizes of the known families; a family that is not listed is tested at its own defaults."""

SHAPE = InputShape(channels=1, image_size=8, classes=3)


@cache
def _images(count: int, seed: int) -> Split:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(SHAPE.classes, (count,), generator=generator)
    images = torch.randn(count, 1, 8, 8, generator=generator) + 0.3 * labels.view(-1, 1, 1, 1)
    return Split(images, labels)


def images(count: int = 40, dtype: torch.dtype = torch.float32, seed: int = 0) -> Split:
    """Noise whose mean brightness depends on the class.

    Args:
        count: images (count, 1, 8, 8) and labels (count,) of three classes.
        dtype: of the images.
        seed: of the noise and the labels.

    Returns:
        New tensors, which may be changed.
    """
    data = _images(count, seed)
    return Split(data.images.to(dtype, copy=True), data.labels.clone())


@cache
def _network(family: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MODELS.create({"name": family, **SMALL.get(family, {})}).build(SHAPE)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):  # neutral initial values would hide errors
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.2)
            if isinstance(gamma := getattr(module, "gamma", None), nn.Parameter):
                nn.init.uniform_(gamma, 0.5, 1.5)
        for parameter in model.parameters():
            if not parameter.any():  # the classifier of timm's Mixer
                nn.init.normal_(parameter, std=0.2)
        model.train()
        with torch.no_grad():
            model(images().images)
    return model.eval()


def network(family: str, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A network of the family with random weights, in evaluation mode; its running statistics have seen images."""
    return copy.deepcopy(_network(family)).to(dtype)


class WithUnused(nn.Module):
    """A network with an additional parameter that it does not use."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.ones(3, dtype=next(inner.parameters()).dtype))
        self.inner = inner

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """The logits of the inner network."""
        logits: torch.Tensor = self.inner(pixels)
        return logits


def state_of(model: nn.Module) -> list[object]:
    """Everything about a network that a measurement might change."""
    tensors = model.state_dict(keep_vars=True)
    return [
        [(n, id(t), t.data_ptr(), t.stride(), t.requires_grad, t.dtype) for n, t in tensors.items()],
        [copy.deepcopy(t.detach()).tolist() for t in tensors.values()],
        [None if p.grad is None else p.grad.tolist() for p in model.parameters()],
        [module.training for module in model.modules()],
    ]


def random_state() -> list[object]:
    """The states of the global generators of torch, numpy and Python."""
    return [torch.get_rng_state().tolist(), repr(np.random.get_state(legacy=False)), random.getstate()]
