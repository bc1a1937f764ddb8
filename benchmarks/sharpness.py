"""Cost of the sharpness metrics on briefly trained networks, interleaved with their floors in one process.

    OMP_NUM_THREADS=1 python benchmarks/sharpness.py

The first table is the median over rounds of a metric's time over its floor: the gradients and forward passes that its
definition asks for, on the same network and batches, in plain torch. Its column `gradient` is the same for one gradient
as one flat vector. The second table sets average-case sharpness against the plain loop of single Gaussian draws. Both
draw until the standard error is at most 5 % of the value; a plain loop that is not there after LONGEST draws has its
time multiplied by the square of what is missing.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn.functional import cross_entropy

from mmbench.data.base import Split
from mmbench.data.digits import Digits
from mmbench.landscape.apgd import Ball, largest_loss
from mmbench.landscape.perturbations import one_step_rises
from mmbench.landscape.surface import Surface
from mmbench.metrics.average_sharpness import FEWEST, AverageSharpness
from mmbench.metrics.base import subject_of
from mmbench.models.mlp import MLP
from mmbench.models.resnet import ResNet
from mmbench.models.vit import ViT
from mmbench.training.loop import train
from mmbench.training.recipes import SGD, AdamW

CASES = {
    "mlp 64-256-128-10": (MLP(hidden=(256, 128)), SGD()),
    "resnet 16-32-64": (ResNet(channels=(16, 32, 64)), SGD()),
    "vit d64 L4": (ViT(embed_dim=64, heads=4, hidden=256, layers=4), AdamW()),
}
TRAINED = (100, 300)
"""Steps, of the 300 of the recipe."""
BATCHES = (64, 256, 1024)
IMAGES, STEPS, RHO, SIGMA, TOLERANCE, LONGEST, ROUNDS = 256, 20, 0.05, 0.005, 0.05, 200, 5


def floor(model: nn.Module, batches: list[Split], gradients: int, forwards: int = 1) -> None:
    """That many gradients and forward passes per batch."""
    parameters = list(model.parameters())
    for batch in batches:
        for _ in range(gradients):
            torch.autograd.grad(cross_entropy(model(batch.images), batch.labels), parameters)
        with torch.no_grad():
            for _ in range(forwards):
                cross_entropy(model(batch.images), batch.labels).item()


def plain_average(model: nn.Module, data: Split, seed: int) -> tuple[float, float, float]:
    """Mean rise over single Gaussian draws; the draws and the seconds it takes or would take."""
    torch.manual_seed(seed)
    start, rises = [p.detach().clone() for p in model.parameters()], []
    began = time.perf_counter()
    with torch.no_grad():
        loss = cross_entropy(model(data.images), data.labels).item()
        missing = 2.0
        while missing > 1 and len(rises) < LONGEST:
            for parameter, value in zip(model.parameters(), start, strict=True):
                parameter.copy_(value + SIGMA * torch.randn_like(value))
            rises.append(cross_entropy(model(data.images), data.labels).item() - loss)
            if len(rises) >= FEWEST:
                error = statistics.stdev(rises) / len(rises) ** 0.5
                missing = error / (TOLERANCE * abs(statistics.fmean(rises)))
        more = max(1.0, missing) ** 2
        took = time.perf_counter() - began
        for parameter, value in zip(model.parameters(), start, strict=True):
            parameter.copy_(value)
    return statistics.fmean(rises), len(rises) * more, took * more


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def ratio(ours: Callable[[], object], theirs: Callable[[], object]) -> str:
    """Median over interleaved rounds."""
    ours(), theirs()
    return f"{statistics.median(seconds(ours) / seconds(theirs) for _ in range(ROUNDS)):.2f}"


def against_floor(model: nn.Module, data: Split, size: int) -> list[str]:
    surface = Surface(copy.deepcopy(model), data)
    surfaces, ball = list(surface.batches(size)), Ball(RHO, "l2")
    batches = [batch.images for batch in surfaces]

    def gradients() -> None:
        for batch in surfaces:
            batch.loss_and_gradient()

    def worst() -> None:
        for batch in surfaces:
            largest_loss(batch, ball, STEPS)

    return [
        ratio(gradients, lambda: floor(surface.model, batches, 1, 0)),
        ratio(lambda: one_step_rises(surface, size, RHO), lambda: floor(surface.model, batches, 1)),
        ratio(worst, lambda: floor(surface.model, batches, STEPS)),
    ]


def against_plain(model: nn.Module, data: Split) -> list[str]:
    metric, plain = AverageSharpness(sigma=SIGMA, pairs=10000, tolerance=TOLERANCE), copy.deepcopy(model)
    rows = []
    for seed in range(3):
        began = time.perf_counter()
        estimate = metric.measure(subject_of(model, (data.images, data.labels), seed=seed))
        took = time.perf_counter() - began
        value, draws, plain_took = plain_average(plain, data, seed)
        rows.append((estimate.value, value, estimate.details["pairs"], draws, took / plain_took))
    return [f"{statistics.median(column):.3g}" for column in zip(*rows, strict=True)]


def main() -> None:
    torch.set_num_threads(1)
    data = Digits().load().train
    floors = Table("network", "batch", "gradient", "SAM", f"worst-case, {STEPS} steps", title="Time over floor")
    average = Table("network", "steps", "value", "plain", "pairs", "draws", "time / plain",
                    title=f"Average-case sharpness, sigma {SIGMA}, to {TOLERANCE:.0%}")  # fmt: skip
    for name, (architecture, recipe) in CASES.items():
        for steps in TRAINED:
            torch.manual_seed(0)
            model = architecture.build(Digits().shape())
            train(model, data, recipe, torch.Generator().manual_seed(0), stop_after=steps)
            chosen = Split(data.images[:IMAGES], data.labels[:IMAGES])
            average.add_row(name, str(steps), *against_plain(model, chosen))
        for size in BATCHES:
            count = max(size, IMAGES)
            chosen = Split(data.images[:count], data.labels[:count])
            floors.add_row(name, str(size), *against_floor(model, chosen, size))
    Console().print(floors, average)


if __name__ == "__main__":
    main()
