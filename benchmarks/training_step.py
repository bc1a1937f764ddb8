"""Time per training step: mmbench's loop against a tutorial DataLoader loop, interleaved in one process.

    OMP_NUM_THREADS=1 python benchmarks/training_step.py

Prints, per model, the median over rounds of (mmbench seconds / tutorial seconds) for the same number of steps.
"""

from __future__ import annotations

import copy
import statistics
import time

import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from mmbench.data.base import InputShape, Split
from mmbench.models.mlp import MLP
from mmbench.models.resnet import ResNet
from mmbench.models.vit import ViT
from mmbench.training.loop import train
from mmbench.training.recipes import SGD

CASES = {  # model, images, image size, steps a round
    "mlp 64-256-128-10, 8x8": (MLP(hidden=(256, 128)), 1797, 8, 1000),
    "resnet 16-32-64, 8x8": (ResNet(channels=(16, 32, 64)), 1797, 8, 60),
    "resnet 16-32-64 x3, 32x32": (ResNet(channels=(16, 32, 64), layers=(3, 3, 3)), 1024, 32, 8),
    "vit d64 L4, 8x8": (ViT(embed_dim=64, heads=4, hidden=256, layers=4), 1797, 8, 30),
}
ROUNDS = 7


def tutorial(model: torch.nn.Module, data: Split, recipe: SGD) -> float:
    """The loop of the PyTorch tutorials: DataLoader, torch.optim.SGD, `.item()` every step."""
    loader = DataLoader(TensorDataset(data.images, data.labels), recipe.batch_size, shuffle=True, drop_last=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=recipe.lr, momentum=recipe.momentum)
    model.train()
    step, running, start = 0, 0.0, time.perf_counter()
    while step < recipe.steps:
        for images, labels in loader:
            optimizer.zero_grad()
            loss = cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            running += loss.item()
            step += 1
            if step == recipe.steps:
                break
    return time.perf_counter() - start


def main() -> None:
    torch.set_num_threads(1)
    for name, (architecture, count, size, steps) in CASES.items():
        torch.manual_seed(0)
        shape = InputShape(1 if size == 8 else 3, size, 10)
        model = architecture.build(shape)
        data = Split(torch.randn(count, shape.channels, size, size), torch.randint(10, (count,)))
        recipe = SGD(steps=steps, warmup_steps=0, clip_norm=None)
        ours, theirs = [], []
        for _ in range(ROUNDS):
            theirs.append(tutorial(copy.deepcopy(model), data, recipe))
            ours.append(train(copy.deepcopy(model), data, recipe, torch.Generator().manual_seed(0)).seconds)
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        print(
            f"{name:28s} {statistics.median(ours) / steps * 1e6:8.0f} us/step, tutorial "
            f"{statistics.median(theirs) / steps * 1e6:8.0f}; ratio {statistics.median(ratios):.2f} "
            f"(tutorial / mmbench {1 / statistics.median(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
