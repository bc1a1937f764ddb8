"""Branches and paths of the manifold metric against their tutorial loops, interleaved in one process.

    OMP_NUM_THREADS=1 python benchmarks/manifold.py

Median over rounds of ours over the loop's time. Branches: copies trained by a DataLoader, torch's optimiser and a loss
read after every step. Paths: interpolated state dicts, loaded at every point, the loss over a DataLoader of 128. Also
what our survey costs, in gradients of a batch, and what it would with 11 points a line.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from itertools import combinations

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from mmbench.data.base import Split
from mmbench.data.digits import Digits
from mmbench.landscape.branches import sgd_branches, shortened
from mmbench.landscape.survey import survey
from mmbench.models.mlp import MLP
from mmbench.models.resnet import ResNet
from mmbench.models.vit import ViT
from mmbench.training import SGD

CASES = {
    "mlp 64-256-128-10": MLP(hidden=(256, 128)),
    "resnet 16-32-64": ResNet(channels=(16, 32, 64)),
    "vit d64 L4": ViT(embed_dim=64, heads=4, hidden=256, layers=4),
}
BRANCHES, FRACTION, IMAGES, ROUNDS = 3, 0.1, 256, 5


def loop_branches(model: nn.Module, data: Split, steps: int, batch: int) -> list[nn.Module]:
    """The branches as a tutorial trains them."""
    found = []
    for _ in range(BRANCHES):
        branch = copy.deepcopy(model).train()
        optimiser, done = torch.optim.SGD(branch.parameters(), lr=0.05, momentum=0.9), 0
        while done < steps:
            for images, labels in DataLoader(TensorDataset(data.images, data.labels), batch, shuffle=True):
                optimiser.zero_grad()
                loss = cross_entropy(branch(images), labels)
                loss.backward()
                nn.utils.clip_grad_norm_(branch.parameters(), 5.0)
                optimiser.step()
                loss.item()
                done += 1
                if done == steps:
                    break
        found.append(branch)
    return found


def loop_paths(models: list[nn.Module], data: Split, alphas: int) -> list[float]:
    """The losses on all lines as a tutorial takes them, each end once per line."""
    walker, losses = copy.deepcopy(models[0]).eval(), []
    for a, b in combinations(models, 2):
        first, second = a.state_dict(), b.state_dict()
        for i in range(alphas):
            alpha = i / (alphas - 1)
            walker.load_state_dict({k: torch.lerp(v, second[k], alpha) if v.is_floating_point() else v
                                    for k, v in first.items()})  # fmt: skip
            total = 0.0
            with torch.no_grad():
                for images, labels in DataLoader(TensorDataset(data.images, data.labels), 128):
                    total += cross_entropy(walker(images), labels, reduction="sum").item()
            losses.append(total / len(data))
    return losses


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    data = Digits().load().train
    chosen = Split(data.images[:IMAGES], data.labels[:IMAGES])
    recipe = shortened(SGD(), FRACTION)
    table = Table(
        "network", "branches", "paths, 5 points", "paths, 11 points", "survey of 3 lines at the middle, gradients"
    )
    for name, architecture in CASES.items():
        model = architecture.build(Digits().shape()).eval()
        models = [branch.model.eval() for branch in sgd_branches(model, data, recipe, BRANCHES, torch.Generator())]
        works: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
            "branches": (
                lambda model=model: sgd_branches(model, data, recipe, BRANCHES, torch.Generator()),
                lambda model=model: loop_branches(model, data, recipe.steps, recipe.batch_size),
            ),
            **{
                f"{alphas}": (
                    lambda model=model, models=models, alphas=alphas: survey(
                        model, models, chosen, alphas, statistics="keep"
                    ),
                    lambda models=models, alphas=alphas: loop_paths(models, chosen, alphas),
                )
                for alphas in (5, 11)
            },
        }
        ratios: dict[str, list[float]] = {key: [] for key in works}
        gradients = []
        for _ in range(ROUNDS):
            for key, (ours, loop) in works.items():
                ratios[key].append(seconds(ours) / seconds(loop))
            train = seconds(lambda model=model: sgd_branches(model, data, recipe, 1, torch.Generator())) / recipe.steps
            looks = seconds(lambda model=model, models=models: survey(model, models, chosen, 3, statistics="keep"))
            gradients.append(looks / train)
        middle = [f"{statistics.median(values):.2f}" for values in (*ratios.values(), gradients)]
        table.add_row(name, *middle)
    Console().print(table)


if __name__ == "__main__":
    main()
