"""How often the interval of a metric, score +- 1.96 standard errors, contains the value that it estimates.

    OMP_NUM_THREADS=1 python -m benchmarks.studies.coverage [METRIC ...] [--seeds 100] [--networks mlp cnn vit]

Every stochastic metric at its defaults, on networks that none of them was tuned on. What is estimated is found apart
from the error that is tested: from the exact spectrum, from a far larger budget, or from all images that the metric's
own are drawn from. The second number is the standard error's root mean square over the spread of the scores: above 1 it
is too large; a bias (of few Lanczos steps, of a short chain) that it covers makes it large, too.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import nn

from mmbench import expand
from mmbench.data.base import Split
from mmbench.data.synthetic import Synthetic
from mmbench.errors import MmbenchError
from mmbench.metrics.base import METRICS, score
from mmbench.metrics.subject import Subject
from mmbench.models.base import MODELS
from mmbench.training.loop import train
from mmbench.training.recipes import SGD

POOL = 1024
"""Images in all."""


@dataclass(frozen=True)
class Case:
    """How a metric is tested."""

    truth: dict[str, Any] = field(default_factory=dict)
    """Options with which it is nearly exact."""
    truths: int = 1
    """Seeds whose mean is the truth."""
    images_vary: bool = False
    """Whether its standard error covers the choice of images; otherwise all seeds have the same."""
    quick: dict[str, Any] = field(default_factory=dict)
    """Options for the truth and the tested alike."""


SPECTRAL = Case({"probes": 1000, "steps": 1000})  # as many products as parameters: the exact spectrum
TRAINING = {"training": SGD(steps=40, warmup_steps=4, batch_size=32)}
CASES: dict[str, Case] = {
    "effective_dimension": SPECTRAL,
    "negative_mass": SPECTRAL,
    "hessian_trace": Case({"tolerance": 1e-3, "probes": 4000}),
    "local_learning_coefficient": Case({"chains": 4, "burn_in": 400, "steps": 1500}, 2),
    "basin_volume": Case({"directions": 400}, 2),
    "average_sharpness": Case({"tolerance": 1e-3, "pairs": 3000}),
    "zen": Case({"probes": 20_000}),
    "barrier_height": Case({"nodes": 100}),
    "manifold": Case({"nodes": 2000, "chains": 16}, 2, quick={"quantile": 0.4}),
    "injected_randomness": Case({"draws": 8}, 2),
    "branch_distance": Case({"branches": 12}, 4, quick={"fraction": 0.25, **TRAINING}),
    "training_loss": Case({"images": POOL}, images_vary=True),
    "fisher": Case({"images": POOL}, images_vary=True),
    "sharpness": Case({"images": POOL}, images_vary=True),
    "adaptive_sharpness": Case({"images": POOL}, images_vary=True),
    "worst_case_sharpness": Case({"images": POOL}, 2, images_vary=True),
}


@dataclass(frozen=True)
class Row:
    """A metric on a network."""

    metric: str
    network: str
    covered: float
    """Share of the seeds whose interval contains the truth."""
    ratio: float
    """Root mean square of the standard errors over the standard deviation of the scores."""
    truth: float
    reason: str = ""


def rows(metrics: Iterable[str], names: Iterable[str], seeds: int, **options: Any) -> list[Row]:
    """Measure.

    Args:
        metrics: keys of `CASES`.
        names: of networks.
        seeds: scores of each metric on each network.
        options: of the metrics that are tested, for those that have them.

    Returns:
        One row per metric and network; a metric that is undefined there has the reason.
    """
    found = []
    for name in names:
        for metric in metrics:
            try:
                found.append(_row(metric, name, seeds, options))
            except MmbenchError as error:
                found.append(Row(metric, name, np.nan, np.nan, np.nan, str(error)))
    return found


def _row(metric: str, name: str, seeds: int, options: dict[str, Any]) -> Row:
    case, fields = CASES[metric], METRICS[metric].model_fields
    own = {**case.quick, **{key: value for key, value in options.items() if key in fields}}
    tested = METRICS.create({"name": metric, **own})
    exact = METRICS.create({"name": metric, **case.quick, **case.truth})
    shared = {key: own[key] for key in ("images",) if key in own and not case.images_vary and key not in case.truth}
    exact = exact.model_copy(update=shared)
    truth = float(np.mean([score(exact, _subject(name, 10_000 + seed, 0)).value for seed in range(case.truths)]))
    estimates = [score(tested, _subject(name, seed, seed + 1 if case.images_vary else 0)) for seed in range(seeds)]
    values, errors = (np.array([getattr(e, what) for e in estimates], float) for what in ("value", "stderr"))
    covered = float(np.mean(np.abs(values - truth) <= 1.96 * errors + 1e-9 * abs(truth)))
    spread = float(values.std(ddof=1))
    ratio = float(np.sqrt(np.mean(errors**2))) / spread if spread > 1e-12 * abs(truth) else np.nan
    return Row(metric, name, covered, ratio, truth)


def _subject(name: str, seed: int, images_seed: int) -> Subject:
    base, large = networks()[name]

    def again(small: nn.Module, draw: int) -> nn.Module:
        return expand(small, "random_pad" if name == "mlp" else "net2wider", factor=2.0, seed=1000 * seed + draw)

    return Subject(large, data(), validation=data(), base=base, expand=again, seed=seed, images_seed=images_seed)


@cache
def data() -> Split:
    """All images, float64."""
    found = Synthetic(task="clusters", image_size=6, classes=4, train_size=POOL, label_noise=0.1).load().train
    return Split(found.images.double(), found.labels)


@cache
def networks() -> dict[str, tuple[nn.Module, nn.Module]]:
    """A base of each kind by name, and its expansion, trained for a while. Not to be changed: they are kept."""
    kinds: dict[str, dict[str, Any]] = {
        "mlp": {"name": "mlp", "hidden": (8, 6)},
        "cnn": {"name": "cnn", "channels": (4, 6), "hidden": (8,)},
        "vit": {"name": "vit", "embed_dim": 8, "heads": 2, "hidden": 10, "layers": 1, "patch_size": 3},
    }
    found = {}
    shape = Synthetic(task="clusters", image_size=6, classes=4, train_size=POOL, label_noise=0.1).load().shape
    for name, options in kinds.items():
        with torch.random.fork_rng([]):
            torch.default_generator.manual_seed(1)
            base = MODELS.create(options).build(shape).double()
        recipe = SGD(steps=120, warmup_steps=5, batch_size=32)
        train(base, data(), recipe, torch.Generator().manual_seed(0))
        base = base.to(memory_format=torch.contiguous_format).eval()
        large = expand(copy.deepcopy(base), "random_pad" if name == "mlp" else "net2wider", factor=2.0, seed=0)
        found[name] = base, large.eval()
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("metrics", nargs="*", help=f"of {', '.join(CASES)}; all by default")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--networks", nargs="*", default=["mlp", "cnn", "vit"])
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print(f"{chosen.seeds} seeds; coverage should be 0.95")
    for metric in chosen.metrics or CASES:
        for row in rows([metric], chosen.networks, chosen.seeds):
            found = f"{row.truth:10.4g}  covered {row.covered:.2f}  stated / spread {row.ratio:.2f}"
            print(f"{metric:26}{row.network:6}{row.reason or found}", flush=True)


if __name__ == "__main__":
    main()
