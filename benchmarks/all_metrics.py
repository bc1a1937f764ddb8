"""All metrics on one expanded network in one pass, against the sum of each alone.

    OMP_NUM_THREADS=1 python benchmarks/all_metrics.py [resnet vit]

A residual network and a ViT, trained on scikit-learn's digits, have their hidden layers doubled by net2wider and are
measured with every metric's defaults (the recipe for those that train: 300 steps). `manifold` is left out: it is no
baseline. Metrics that repeat the expansion, which is not given here, show that they are undefined.
"""

from __future__ import annotations

import sys
import time

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from mmbench import Estimate, expand, measure, measure_all
from mmbench.data.digits import Digits
from mmbench.errors import MmbenchError
from mmbench.metrics.base import METRICS
from mmbench.models.resnet import ResNet
from mmbench.models.vit import ViT
from mmbench.training.loop import train
from mmbench.training.recipes import SGD, AdamW

NETWORKS = {"resnet": (ResNet(), SGD()), "vit": (ViT(), AdamW())}


def main() -> None:
    torch.set_num_threads(1)
    console = Console(width=120)
    for name in sys.argv[1:] or NETWORKS:
        architecture, recipe = NETWORKS[name]
        torch.manual_seed(0)
        data = Digits().load()
        base = architecture.build(data.shape)
        train(base, data.train, recipe, torch.Generator().manual_seed(0))
        model = expand(base, "net2wider", axis="hidden", factor=2.0)
        images = data.train.images, data.train.labels
        more = {"validation": (data.validation.images, data.validation.labels), "base": base}
        metrics = [metric for metric in METRICS.names() if metric != "manifold"]
        alone: dict[str, float] = {}
        for metric in track(metrics, "alone", console=console, transient=True):
            start = time.perf_counter()
            try:
                measure(model, images, metric, **more)
            except MmbenchError:
                continue
            alone[metric] = time.perf_counter() - start
        start = time.perf_counter()
        together = measure_all(model, images, metrics, **more)
        one_pass = time.perf_counter() - start
        table = Table("metric", "score", "stderr", "alone, s", "charged in the pass, s", title=name)
        for metric, found in together.items():
            if isinstance(found, Estimate):
                error = "-" if found.stderr is None else f"{found.stderr:.2g}"
                table.add_row(metric, f"{found.value:.5g}", error, f"{alone[metric]:.2f}", f"{found.seconds:.2f}")
            else:
                table.add_row(metric, str(found)[:60], "", "", "")
        console.print(table)
        total = sum(alone.values())
        console.print(f"{name}: one pass {one_pass:.1f} s, each alone {total:.1f} s, ratio {one_pass / total:.2f}")


if __name__ == "__main__":
    main()
