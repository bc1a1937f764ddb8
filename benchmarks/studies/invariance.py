"""What leaves each metric unchanged: metrics measured before and after a change that keeps a network's predictions.

A score that such a change moves reads something of the weights that the predictions do not show, and its correlation
with the gain may be one with their scale or layout. The networks are an MLP and a small residual network in float64,
briefly trained on synthetic clusters. Every score is taken before and after with the same seed; one that depends on the
seed is taken with several, and the error is that of the mean difference over them. The images are the same throughout,
so that the error of their choice does not hide a change.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from mmbench import expand
from mmbench.data.base import InputShape, Split
from mmbench.data.synthetic import Synthetic
from mmbench.errors import MmbenchError
from mmbench.landscape.folding import fold_batch_norms
from mmbench.landscape.matching import permuted
from mmbench.metrics.base import METRICS, Metric, score
from mmbench.metrics.subject import Subject
from mmbench.models.base import Architecture
from mmbench.models.mlp import MLP
from mmbench.models.reading import architecture_of
from mmbench.models.resnet import ResNet
from mmbench.training.loop import train
from mmbench.training.recipes import SGD

IMAGES = 96
SEEDS = 16
"""Pairs of scores of a metric that depends on the seed."""
EXACT = 1e-6
"""Relative drift below which a score is unchanged."""
CHEAP: dict[str, Any] = {
    "images": IMAGES,
    "batch_size": 32,
    "probes": 4,
    "steps": 20,
    "burn_in": 20,
    "fraction": 0.5,
    "minus_null": False,  # the change is no expansion that could be repeated
    "training": SGD(steps=40, warmup_steps=4, batch_size=32),
}
"""Options that make metrics cheap, for those that have them."""
CHANGES = ("permutation", "rescaling", "duplication", "logit shift", "folding")
Verdict = Literal["invariant", "within error", "changes", "undefined"]


@dataclass(frozen=True)
class Certificate:
    """What a change did to a metric."""

    metric: str
    network: str
    change: str
    verdict: Verdict
    """`invariant`: drift below 1e-6 with every seed; `within error`: below 3 standard errors over the seeds."""
    drift: float | None = None
    """|mean over seeds of m(T w) - m(w)| / |mean of m(w)|; the difference itself where that mean is 0."""
    error: float | None = None
    """Standard error of the drift over the seeds; 0 where the seed makes no difference."""
    reason: str = ""
    """Why it is undefined."""


def certificates(metrics: Iterable[str] | None = None) -> list[Certificate]:
    """One row per metric (all, if none are named), network and change."""
    chosen = [_cheap(name) for name in (METRICS.names() if metrics is None else metrics)]
    rows = []
    for network, (model, changed) in networks().items():
        before = _Scores(model, model)
        for change, other in changed.items():
            after = _Scores(other, model)
            rows += [_certificate(metric, network, change, before, after) for metric in chosen]
    return sorted(rows, key=lambda row: (row.metric, row.network, CHANGES.index(row.change)))


@cache
def networks() -> dict[str, tuple[nn.Module, dict[str, nn.Module]]]:
    """Each network by name, and what each change that applies to it makes of it. Not to be changed: they are kept."""
    generator = torch.Generator().manual_seed(0)
    mlp, resnet = _trained(MLP(hidden=(16, 12))), _trained(ResNet(channels=(8, 12), layers=(1, 1)))
    doubled = expand(mlp, "net2wider", axis="hidden", factor=2.0, split="equal", allow_symmetric=True)
    return {
        "mlp": (
            mlp,
            {
                "permutation": _permuted(mlp, generator),
                "rescaling": _rescaled(mlp, generator),
                "duplication": doubled,
                "logit shift": _shifted(mlp),
            },
        ),
        "resnet": (resnet, {"permutation": _permuted(resnet, generator), "folding": _folded(resnet)}),
    }


@cache
def images() -> tuple[Split, Split]:
    """Training and validation images, float64."""
    found = Synthetic(task="clusters", image_size=6, classes=3, train_size=IMAGES, validation_size=IMAGES).load()
    train, validation = (Split(split.images.double(), split.labels) for split in (found.train, found.validation))
    return train, validation


class _Scores:
    """A network's scores; the metrics that it is measured with share what they compute alike."""

    def __init__(self, model: nn.Module, base: nn.Module) -> None:
        self.model, self.base = model, base
        self.subjects: dict[int, Subject] = {}

    def __call__(self, metric: Metric, seed: int) -> float:
        if seed not in self.subjects:
            train, validation = images()
            self.subjects[seed] = Subject(self.model, train, validation=validation, base=self.base, seed=seed)
        return score(metric, self.subjects[seed]).value


def _cheap(name: str) -> Metric:
    fields = METRICS[name].model_fields
    return METRICS.create({"name": name, **{key: value for key, value in CHEAP.items() if key in fields}})


def _certificate(metric: Metric, network: str, change: str, before: _Scores, after: _Scores) -> Certificate:
    pairs: list[tuple[float, float]] = []
    try:
        for seed in range(SEEDS):
            pairs.append((before(metric, seed), after(metric, seed)))
            if seed == 1 and np.allclose(pairs[0], pairs[1], rtol=1e-9, atol=0):
                break  # the seed makes no difference
    except MmbenchError as error:
        return Certificate(metric.name, network, change, "undefined", reason=str(error))
    old, new = np.array(pairs).T
    scale = abs(old.mean()) or 1.0
    moves = (new - old) / scale
    drift, spread = float(abs(moves.mean())), float(moves.std(ddof=1) / len(moves) ** 0.5)
    verdict: Verdict = "changes"
    if np.abs(moves).max() < EXACT:
        verdict = "invariant"
    elif drift < 3 * spread:
        verdict = "within error"
    return Certificate(metric.name, network, change, verdict, drift, spread)


def _trained(architecture: Architecture) -> nn.Module:

    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(0)
        model = architecture.build(InputShape(1, 6, 3)).double()
    recipe = SGD(steps=60, warmup_steps=5, batch_size=32)
    train(model, images()[0], recipe, torch.Generator().manual_seed(0))
    return model.to(memory_format=torch.contiguous_format)


def _permuted(model: nn.Module, generator: torch.Generator) -> nn.Module:
    """The channels of every layer in another order."""
    architecture, shape = architecture_of(model)
    groups = architecture.table(shape).groups
    return permuted(model, {name: torch.randperm(g.size, generator=generator) for name, g in groups.items()})


def _rescaled(mlp: nn.Module, generator: torch.Generator) -> nn.Module:
    """Each ReLU unit's incoming weights and bias times c, its outgoing weights times 1 / c, c from 1/4 to 4."""
    changed = copy.deepcopy(mlp)
    layers = [module for module in changed.modules() if isinstance(module, torch.nn.Linear)]
    with torch.no_grad():
        for layer, following in pairwise(layers):
            c = torch.pow(4.0, 2 * torch.rand(layer.out_features, generator=generator, dtype=torch.float64) - 1)
            layer.weight.mul_(c[:, None])
            layer.bias.mul_(c)
            following.weight.div_(c)
    return changed


def _shifted(mlp: nn.Module) -> nn.Module:
    """1 added to all logits, which softmax does not see."""
    changed = copy.deepcopy(mlp)
    changed.get_parameter("head.bias").data += 1
    return changed


def _folded(resnet: nn.Module) -> nn.Module:
    """Every batch norm folded into the convolution before it, and gone."""
    changed = copy.deepcopy(resnet).eval()
    folded = fold_batch_norms(changed, images()[0].images[:1])
    for name, module in list(changed.named_modules()):
        if module in folded:
            parent, _, child = name.rpartition(".")
            setattr(changed.get_submodule(parent), child, nn.Identity())
    return changed
