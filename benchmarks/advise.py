"""Advice, and the truth: what following it would have lost and gained, on networks it has not seen.

    OMP_NUM_THREADS=1 python benchmarks/advise.py CIFAR10_FOLDER

For a Vision Transformer, a residual network and a Mixer on digits and on 5,000 CIFAR-10 images (8x8): train a base
model, ask for advice at twice its parameters, then train every candidate, twice. Gain: points of test accuracy over the
base model, mean of the two. Regret: points of gain that the first of a ranking loses against the best candidate; of the
advice, of a choice at random (expected), of `parameters` and of the loss after a tenth of training.
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.stats import spearmanr

import mmbench
from mmbench.data.base import DATASETS
from mmbench.models.base import MODELS
from mmbench.models.copies import copied
from mmbench.training.loop import evaluate, train
from mmbench.training.recipes import SGD, AdamW

STEPS, BUDGET, SEEDS = 200, 2.0, 2
NETWORKS: dict[str, tuple[dict[str, Any], type[SGD] | type[AdamW]]] = {
    "vit": ({"embed_dim": 16, "hidden": 48, "layers": 1}, AdamW),
    "resnet": ({"channels": [4, 6, 8], "layers": [2, 1, 1]}, SGD),
    "mixer": ({"embed_dim": 12, "token_hidden": 12, "channel_hidden": 32, "layers": 2}, AdamW),
}
COLUMNS = ("case", "candidates", "rho with gain", "advice: first, gain", "best, gain", "regret: advice", "random",
           "parameters", "early loss", "seconds: advice", "all trained")  # fmt: skip


def main(cifar: str) -> None:
    sets: dict[str, dict[str, Any]] = {
        "digits": {"name": "digits"},
        "cifar10": {"name": "parquet", "path": cifar, "train_size": 5000, "validation_size": 500, "test_size": 4000,
                    "image_size": 8},
    }  # fmt: skip
    console, rows = Console(width=160), []
    for dataset, source in sets.items():
        data = DATASETS.create(source).load()
        examples = data.train.images, data.train.labels
        for family, (sizes, recipe_class) in NETWORKS.items():
            recipe = recipe_class(steps=STEPS)
            torch.manual_seed(0)
            model = MODELS.create({"name": family, **sizes}).build(data.shape)
            train(model, data.train, recipe, torch.Generator().manual_seed(0))
            base = evaluate(model, data.test).accuracy
            advice = mmbench.advise(model, examples, budget=BUDGET, training=recipe)
            spent, advice = advice.attrs["seconds"], advice[advice["rank"].notna()]
            names = (advice["expansion"] + " " + advice["axis"]).tolist()
            gains, early, seconds = [], [], []
            for row in track(list(advice.itertuples()), f"{family} {dataset}", console=console, transient=True):
                start = time.perf_counter()
                options = {"axis": row.axis, "budget": BUDGET, "tolerance": 0.05}
                large = mmbench.expand(model, str(row.expansion), data=examples, **options)
                trained = [copied(large) for _ in range(SEEDS)]
                for seed, network in enumerate(trained, 1):
                    train(network, data.train, recipe, torch.Generator().manual_seed(seed))
                seconds.append((time.perf_counter() - start) / SEEDS)
                gains.append(
                    100 * (statistics.mean(evaluate(network, data.test).accuracy for network in trained) - base)
                )
                train(large, data.train, recipe, torch.Generator().manual_seed(0), stop_after=STEPS // 10)
                early.append(evaluate(large, data.train).loss)
            best, counts = max(gains), advice["parameters"].tolist()
            console.print(
                f"{family} {dataset}: " + ", ".join(f"{n} {g:+.1f}" for n, g in zip(names, gains, strict=True))
            )
            regrets = {
                "advice": best - gains[0],
                "random": best - statistics.mean(gains),
                "parameters": best - gains[counts.index(max(counts))],
                "early loss": best - gains[early.index(min(early))],
            }
            rho = float(spearmanr(-advice["rank"].astype(float), gains)[0])
            rows.append([
                f"{family} {dataset}", f"{len(gains)}", f"{rho:+.2f}", f"{names[0]} {gains[0]:+.1f}",
                f"{names[gains.index(best)]} {best:+.1f}", *(f"{regret:.1f}" for regret in regrets.values()),
                f"{spent:.0f}", f"{sum(seconds):.0f}",
            ])  # fmt: skip
    table = Table(*COLUMNS)
    for cells in rows:
        table.add_row(*cells)
    console.print(table)


if __name__ == "__main__":
    main(sys.argv[1])
