"""Cost and spread of the manifold metric, and its time beside that of other proxies (table 5 of the paper).

    OMP_NUM_THREADS=1 python benchmarks/manifold.py [speed] [spread] [coverage] [table5] [--rounds 5] [--images 16]

speed: n nodes through `Lines` (activations mixed) in units of n plain forward passes of the same batch, of mixed weights
through `functional_call`, and of copies with mixed weights; interleaved rounds, process time, medians of ratios.
spread: M of one expansion over seeds at n = 50, 250 and 1000, its standard deviation, the mean of the reported standard
error, and the cost in forward passes. coverage: how often +-1.96 standard errors hold the value of very many chains,
over 200 seeds. table5: seconds per score, in units of GradNorm. Every row is printed as soon as it is known.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable, Iterator
from statistics import mean, median, stdev
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from mmbench import expand, measure
from mmbench.data.base import InputShape, Split
from mmbench.data.digits import Digits
from mmbench.landscape.midpoints import Lines
from mmbench.landscape.permutations import choose, orders, table_of, towards
from mmbench.metrics.base import METRICS, subject_of
from mmbench.metrics.manifold import Manifold
from mmbench.models.base import MODELS
from mmbench.statistics.barriers import metric_from_barriers, standard_error
from mmbench.training.loop import train
from mmbench.training.recipes import SGD

CIFAR = InputShape(3, 32, 10)
SPEED = {
    "MLP 3072-256-256, fc1": ({"name": "mlp", "hidden": (256, 256)}, CIFAR, "fc1", 512),
    "MLP 64-256-256, fc1": ({"name": "mlp", "hidden": (256, 256)}, InputShape(1, 8, 10), "fc1", 512),
    "CNN-C10, conv1": ({"name": "cnn"}, CIFAR, "conv1", 512),
    "CNN-C10, conv2": ({"name": "cnn"}, CIFAR, "conv2", 512),
    "ResNet 16-32-64, inner": ({"name": "resnet", "channels": (16, 32, 64)}, CIFAR, "stages.1.0.1", 256),
    "ResNet 16-32-64, stream": ({"name": "resnet", "channels": (16, 32, 64)}, CIFAR, "stage0", 256),
}
TRAINED = {
    "MLP 64-16": {"name": "mlp", "hidden": (16,)},
    "MLP 64-64": {"name": "mlp", "hidden": (64,)},
    "CNN 8-16": {"name": "cnn", "channels": (8, 16), "hidden": (32,)},
}
"""Trained on digits."""
PAPER = {
    "CNN-C10": ({"name": "cnn"}, CIFAR),
    "CNN-C100": ({"name": "cnn", "channels": (16, 64, 64, 64), "pools": (4,)}, InputShape(3, 32, 100)),
    "ResNet18-C10": ({"name": "resnet", "channels": (64, 128, 256, 512), "layers": (2, 2, 2, 2)}, CIFAR),
}
RIVALS = ("grad_norm", "snip", "synflow", "jacob_cov", "grasp")


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def noise(shape: InputShape, count: int) -> Split:
    generator = torch.Generator().manual_seed(0)
    size = (count, shape.channels, shape.image_size, shape.image_size)
    return Split(torch.randn(size, generator=generator), torch.randint(shape.classes, (count,), generator=generator))


def speed(rounds: int, nodes: int = 20) -> None:
    for name, (options, shape, group, count) in SPEED.items():
        model, data = MODELS.create(options).build(shape).eval(), noise(shape, count)
        fast, table = Lines(model, data, group), table_of(model)
        walk = orders(table.groups[group].size, nodes, "chain", "log2", torch.Generator())
        jobs = {
            "ours": lambda fast=fast, walk=walk: fast.losses(walk),
            "plain": lambda model=model, data=data: plain(model, data, nodes),
            "functional_call": lambda m=model, d=data, w=walk, t=table, g=group: by_weights(m, d, w, t, g, functional),
            "copies": lambda m=model, d=data, w=walk, t=table, g=group: by_weights(m, d, w, t, g, copying),
        }
        taken: dict[str, list[float]] = {job: [] for job in jobs}
        for _ in range(rounds + 1):
            for job, work in jobs.items():
                taken[job].append(seconds(work))
        ratios = [
            f"{median(a / b for a, b in zip(taken['ours'][1:], taken[job][1:], strict=True)):.2f} x {job}"
            for job in list(jobs)[1:]
        ]
        print(f"{name:26} {'activations' if fast.fast else 'weights':12}", ", ".join(ratios), flush=True)


def plain(model: nn.Module, data: Split, times: int) -> None:
    with torch.no_grad():
        for _ in range(times):
            cross_entropy(model(data.images).double(), data.labels)


def by_weights(model: nn.Module, data: Split, walk: Tensor, table: Any, group: str, run: Any) -> None:
    with torch.no_grad():
        for order in walk:
            logits = run(model, towards(model, table, group, order, 0.5), data.images)
            cross_entropy(logits.double(), data.labels)


def functional(model: nn.Module, state: dict[str, Tensor], images: Tensor) -> Tensor:
    return functional_call(model, state, (images,))


def copying(model: nn.Module, state: dict[str, Tensor], images: Tensor) -> Tensor:
    twin = copy.deepcopy(model)
    twin.load_state_dict({**model.state_dict(), **state})
    return twin(images)


def trained() -> Iterator[tuple[str, nn.Module, nn.Module, Split]]:
    """A base model, its expansion, and the images."""
    data = Digits().load().train
    for name, options in TRAINED.items():
        torch.manual_seed(0)
        model = MODELS.create(options).build(Digits().shape())
        train(model, data, SGD(steps=400), torch.Generator())
        yield name, model.eval(), expand(model, "net2wider", factor=1.5).eval(), data


def spread(seeds: int) -> None:
    for name, base, large, data in trained():
        passes = median(
            seconds(lambda m=large, d=data: plain(m, Split(d.images[:512], d.labels[:512]), 10)) / 10 for _ in range(5)
        )
        for nodes in (50, 250, 1000):
            found = [
                measure(large, (data.images, data.labels), "manifold", base=base, seed=seed, nodes=nodes)
                for seed in range(seeds if nodes < 1000 else max(2, seeds // 2))
            ]
            scores, errors = [e.value for e in found], [e.stderr or 0.0 for e in found]
            cost = median(e.seconds for e in found) / passes
            print(
                f"{name}, n = {nodes:4}: M = {mean(scores):5.1f}, standard deviation over seeds {stdev(scores):4.1f}, "
                f"mean standard error {mean(errors):4.1f}, cost with the base model's {cost:.0f} passes of 512 images",
                flush=True,
            )


def coverage(seeds: int, steps: int = 63, chains: int = 4, images: int = 64) -> None:
    for name, base, large, data in trained():
        few, barriers = Split(data.images[:images], data.labels[:images]), {}
        for first, (label, model) in enumerate({"base": base, "large": large}.items()):
            table = table_of(model)
            (group,) = choose(table, "first")
            walks = [
                orders(table.groups[group].size, steps, "chain", "log2", torch.Generator().manual_seed(2 * c + first))
                for c in range(seeds * chains)
            ]
            barriers[label] = Lines(model, few, group).barriers(torch.cat(walks)).view(-1, steps).numpy()
        for q in (0.1, 0.4):
            truth = metric_from_barriers(barriers["large"], barriers["base"], q)
            parts = [(barriers["large"][i : i + chains], barriers["base"][i : i + chains])
                     for i in range(0, seeds * chains, chains)]  # fmt: skip
            scores = np.array([metric_from_barriers(ours, theirs, q) for ours, theirs in parts])
            errors = np.array([standard_error(ours, theirs, q) for ours, theirs in parts])
            covered = np.mean(np.abs(scores - truth) <= 1.96 * errors)
            print(
                f"{name}, q = {q}: M = {truth:.1f}, standard deviation {scores.std():.1f}, mean standard error "
                f"{errors.mean():.1f}, +-1.96 of it cover {covered:.1%} of {seeds} seeds",
                flush=True,
            )


def table5(rounds: int, images: int) -> None:
    for name, (options, shape) in PAPER.items():
        model, data = MODELS.create(options).build(shape).eval(), noise(shape, images)
        jobs: dict[str, tuple[str, dict[str, Any]]] = {
            rival: (rival, {"images": images} if "images" in METRICS[rival].model_fields else {}) for rival in RIVALS
        }
        jobs |= {
            f"manifold, n = {n}": ("manifold", {"images": images, "nodes": n, "chains": 1}) for n in (50, 250, 1000)
        }
        unit = 1.0
        for job, (metric, given) in jobs.items():
            many = 1 if "1000" in job else rounds
            times = [seconds(lambda m=metric, g=given: score(m, model, data, g)) for _ in range(many)]
            unit = median(times) if job == RIVALS[0] else unit
            print(f"{name:14} {job:20} {median(times):8.3f} s = {median(times) / unit:7.1f} x {RIVALS[0]}", flush=True)


def score(metric: str, model: nn.Module, data: Split, options: dict[str, Any]) -> None:
    """One score. For the manifold metric the base model's barriers are given: they are measured once for all networks."""
    chosen, subject = METRICS.create({"name": metric, **options}), subject_of(model, data, base=model)
    if isinstance(chosen, Manifold):
        subject.give_reference(chosen, {"barriers": torch.rand(1, chosen.nodes, dtype=torch.float64)})
    chosen.measure(subject)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["speed", "spread", "coverage", "table5"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--images", type=int, default=16)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    work: dict[str, Callable[[], None]] = {
        "speed": lambda: speed(chosen.rounds),
        "spread": lambda: spread(max(2, chosen.seeds // 20)),
        "coverage": lambda: coverage(chosen.seeds),
        "table5": lambda: table5(chosen.rounds, chosen.images),
    }
    for part in chosen.parts:
        print(f"{part}:", flush=True)
        work[part]()


if __name__ == "__main__":
    main()
