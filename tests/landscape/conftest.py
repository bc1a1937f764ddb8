"""Small networks of every family in float64, with weights and running statistics that have no special values."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from mmbench.data.base import InputShape, Split
from mmbench.landscape.paths import Place, move
from mmbench.landscape.surface import Surface
from mmbench.models.base import MODELS

SMALL = {
    "mlp": {"hidden": (4, 3)},
    "resnet": {"channels": (2, 3), "layers": (1, 1)},
    "vit": {"embed_dim": 4, "heads": 2, "hidden": 6, "layers": 1, "patch_size": 4},
    "mixer": {"embed_dim": 4, "token_hidden": 3, "channel_hidden": 6, "layers": 1, "patch_size": 4},
    "convnext": {"channels": (4, 4, 5, 6), "hidden": (3, 3, 3, 3), "kernel_size": 3},
}
SHAPE = InputShape(channels=1, image_size=8, classes=3)


def problem(family: str, count: int = 20) -> tuple[nn.Module, Split]:
    """A network and images that it has not been trained on."""
    with torch.random.fork_rng():
        torch.manual_seed(11)
        data = Split(torch.randn(count, 1, 8, 8, dtype=torch.float64), torch.arange(count) % SHAPE.classes)
        model = MODELS.create({"name": family, **SMALL.get(family, {})}).build(SHAPE).double()
        with torch.no_grad():
            model.train()(data.images)
            for parameter in model.parameters():
                parameter += 0.2 * torch.randn_like(parameter)
    return model.eval(), data


def path_losses(surface: Surface, a: Place, b: Place, alphas: Sequence[float]) -> list[float]:
    """The loss at (1 - alpha) a + alpha b for each alpha."""
    losses = []
    for alpha in alphas:
        move(surface, a, b, alpha)
        losses.append(surface.loss())
    return losses
