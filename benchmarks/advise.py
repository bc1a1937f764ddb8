"""Advice, and the truth: what following it would have lost and gained, on networks it has not seen.

    OMP_NUM_THREADS=1 python benchmarks/advise.py CIFAR10_FOLDER

For a Vision Transformer, a residual network and a Mixer on digits and on 5,000 CIFAR-10 images (8x8): train a base
model, ask for advice at twice its parameters, then train every candidate. Regret: points of test accuracy that the
first of a ranking loses against the best candidate; of the advice, of a choice at random (expected), of `parameters`
and of the loss after a tenth of training.
"""

from __future__ import annotations

import copy
import statistics
import sys
import time
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

import mmbench
from mmbench.registry import DATASETS, MODELS
from mmbench.training import SGD, AdamW, evaluate, train

STEPS, BUDGET = 200, 2.0
NETWORKS: dict[str, tuple[dict[str, Any], type[SGD] | type[AdamW]]] = {
    "vit": ({"embed_dim": 16, "hidden": 48, "layers": 1}, AdamW),
    "resnet": ({"channels": [4, 6, 8], "layers": [2, 1, 1]}, SGD),
    "mixer": ({"embed_dim": 12, "token_hidden": 12, "channel_hidden": 32, "layers": 2}, AdamW),
}
OPERATORS = ("net2wider", "hypercloning", "lemon", "random_pad", "zero_pad", "gradmax", "identity_block", "stack",
             "interpolate", "width_then_depth", "bert2bert_aki")  # fmt: skip


def main(cifar: str) -> None:
    sets: dict[str, dict[str, Any]] = {
        "digits": {"name": "digits"},
        "cifar10": {"name": "parquet", "path": cifar, "train_size": 5000, "validation_size": 500, "test_size": 4000,
                    "image_size": 8},
    }  # fmt: skip
    table = Table("case", "candidates", "advice: first, gain", "best, gain", "regret: advice", "random", "parameters",
                  "early loss", "seconds: advice", "all trained")  # fmt: skip
    for dataset, source in sets.items():
        data = DATASETS.create(source).load()
        for family, (sizes, recipe_class) in NETWORKS.items():
            recipe = recipe_class(steps=STEPS)
            torch.manual_seed(0)
            model = MODELS.create({"name": family, **sizes}).build(data.shape)
            train(model, data.train, recipe, torch.Generator().manual_seed(0))
            given = {"budget": BUDGET, "training": recipe, "expansions": OPERATORS}
            advice = mmbench.advise(model, (data.train.images, data.train.labels), **given)
            advice, base = advice[advice["rank"].notna()], evaluate(model, data.test).accuracy
            start, gains, early = time.perf_counter(), [], []
            for row in advice.itertuples():
                examples = data.train.images, data.train.labels
                options = {"axis": row.axis, "budget": BUDGET, "tolerance": 0.05}
                large = mmbench.expand(model, row.expansion, data=examples, **options)
                short = copy.deepcopy(large)
                train(short, data.train, recipe, torch.Generator().manual_seed(2), stop_after=STEPS // 10)
                early.append(evaluate(short, data.train).loss)
                train(large, data.train, recipe, torch.Generator().manual_seed(1))
                gains.append(100 * (evaluate(large, data.test).accuracy - base))
            trained, best = time.perf_counter() - start, max(gains)
            sizes_ = advice["parameters"].tolist()
            table.add_row(
                f"{family} {dataset}", str(len(gains)),
                f"{advice['expansion'].iloc[0]} {advice['axis'].iloc[0]} {gains[0]:+.1f}",
                f"{advice['expansion'].iloc[gains.index(best)]} {best:+.1f}", f"{best - gains[0]:.1f}",
                f"{best - statistics.mean(gains):.1f}", f"{best - gains[sizes_.index(max(sizes_))]:.1f}",
                f"{best - gains[early.index(min(early))]:.1f}", f"{advice['seconds'].sum():.0f}", f"{trained:.0f}",
            )  # fmt: skip
            Console(width=200).print(table)


if __name__ == "__main__":
    main(sys.argv[1])
