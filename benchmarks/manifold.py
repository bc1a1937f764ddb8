"""Branches and paths of the manifold metric against their tutorial loops, interleaved in one process.

    OMP_NUM_THREADS=1 python benchmarks/manifold.py

Median over rounds of ours over the loop's time. Branches: copies trained by a DataLoader, torch's optimiser and a loss
read after every step. Paths: interpolated state dicts, loaded at every point, the loss over a DataLoader of 128. Also
what our survey costs, in gradients of a batch, and what it would with 11 points a line.

A second table: branches with stacked weights over branches one after the other, and the same for networks as deep but
so narrow, on two images, that hardly more than the launching of operations is left: what a GPU with arithmetic to spare
would be bound by. On a machine with a GPU the column before it is what decides.

A third: what the default score of an expanded network costs, of three and of two points, over training it, for the
networks of docs/evidence.md and 200 steps of 32 images.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from itertools import combinations
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from mmbench import expand, measure
from mmbench.data.base import Split
from mmbench.data.digits import Digits
from mmbench.expansions.apply import Expander
from mmbench.landscape.branches import sgd_branches, shortened
from mmbench.landscape.survey import survey
from mmbench.metrics.base import METRICS
from mmbench.models.base import MODELS
from mmbench.models.copies import copied
from mmbench.models.mlp import MLP
from mmbench.models.resnet import ResNet
from mmbench.models.vit import ViT
from mmbench.training.loop import train
from mmbench.training.recipes import SGD, AdamW
from mmbench.training.stacked import train_together

CASES = {
    "mlp 64-256-128-10": MLP(hidden=(256, 128)),
    "resnet 16-32-64": ResNet(channels=(16, 32, 64)),
    "vit d64 L4": ViT(embed_dim=64, heads=4, hidden=256, layers=4),
}
NARROW = {
    "mlp 64-256-128-10": MLP(hidden=(8, 8)),
    "resnet 16-32-64": ResNet(channels=(2, 2, 2)),
    "vit d64 L4": ViT(embed_dim=4, heads=2, hidden=4, layers=4),
}
EXPANDED: dict[str, tuple[dict[str, Any], type[SGD] | type[AdamW]]] = {
    "mlp": ({"hidden": [12, 12, 12]}, SGD),
    "resnet": ({"channels": [4, 6, 8], "layers": [2, 1, 1]}, SGD),
    "vit": ({"embed_dim": 16, "hidden": 48, "layers": 1}, AdamW),
}
BRANCHES, FRACTION, IMAGES, ROUNDS = 3, 0.1, 256, 5
TOGETHER = (3, 8)
"""Numbers of branches in the second table."""


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


def stacked(model: nn.Module, data: Split, recipe: SGD, count: int) -> float:
    """The median time of branches with stacked weights over that of branches one after the other."""
    ratios = []
    for _ in range(ROUNDS):
        models = [copied(model) for _ in range(2 * count)]
        together = seconds(lambda models=models: train_together(models[:count], data, recipe, torch.Generator()))
        alone = seconds(lambda models=models: [train(one, data, recipe, torch.Generator()) for one in models[count:]])
        ratios.append(together / alone)
    return statistics.median(ratios)


def stacking(data: Split, device: str) -> Table:
    recipe = shortened(SGD(), FRACTION)
    table = Table("network", "branches", "stacked / one by one", "of launches alone", title=f"on {device}")
    data = Split(data.images.to(device), data.labels.to(device))
    few = Split(data.images[:2], data.labels[:2])
    for name, architecture in CASES.items():
        for count in TOGETHER:
            wide, narrow = (a.build(Digits().shape()).to(device) for a in (architecture, NARROW[name]))
            cells = stacked(wide, data, recipe, count), stacked(narrow, few, recipe, count)
            table.add_row(name, str(count), *(f"{ratio:.2f}" for ratio in cells))
    return table


def cost() -> Table:
    """Seconds of the default score over those of a training, interleaved."""
    data = Digits(train_size=1000).load()
    examples, kind = (data.train.images, data.train.labels), METRICS["manifold"]
    table = Table("network", "training, s", "three points", "two points", title="the default score / training")
    for name, (sizes, recipe_class) in EXPANDED.items():
        recipe = recipe_class(steps=200, warmup_steps=10, batch_size=32)
        base = MODELS.create({"name": name, **sizes}).build(data.shape)
        train(base, data.train, recipe, torch.Generator())
        way = {"axis": "width", "factor": 2.0}
        large = expand(base, "net2wider", **way)

        def grown(small: nn.Module, draw: int, base: nn.Module = base, way: dict[str, Any] = way) -> nn.Module:
            return Expander(base, "net2wider", seed=draw, **way)(small)

        whole: list[float] = []
        parts: dict[int, list[float]] = {3: [], 2: []}
        for _ in range(ROUNDS):
            one = copied(large)
            whole.append(seconds(lambda one=one, recipe=recipe: train(one, data.train, recipe, torch.Generator())))
            for points, ratios in parts.items():
                options = {"branches": points, "report_null": False, "training": recipe}
                metric = METRICS.create({"name": "manifold", **kind.where_expanded, **options})
                found = measure(large, examples, metric, base=base, expand=grown)
                ratios.append(found.seconds / whole[-1])
        middle = [f"{statistics.median(ratios):.2f}" for ratios in parts.values()]
        table.add_row(name, f"{statistics.median(whole):.2f}", *middle)
    return table


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
    Console().print(stacking(data, "cuda" if torch.cuda.is_available() else "cpu"))
    Console().print(cost())


if __name__ == "__main__":
    main()
