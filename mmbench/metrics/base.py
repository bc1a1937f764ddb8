"""What a metric is, and the driver that measures one without leaving a trace."""

from __future__ import annotations

import copy
import math
import time
from abc import abstractmethod
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mmbench.data.base import Split
from mmbench.errors import ConfigError, DataError, ScoreError
from mmbench.registry import METRICS, Component

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Estimate:
    """A score with its standard error.

    The error is that of the estimator's own randomness (probes, batches, branches, the choice of images where it is
    known); 0 for an exact score, None where one draw cannot tell.
    """

    value: float
    stderr: float | None
    seconds: float = math.nan
    """Wall-clock cost."""
    details: dict[str, float] = field(default_factory=dict)
    """Other numbers that came along, by name."""


class Metric(Component):
    """Base of all metrics. The fields of a subclass are its options."""

    expected_sign: ClassVar[Literal[-1, 0, 1]]
    """+1 where theory says that a larger score means a larger gain, -1 where smaller, 0 where it says nothing."""

    @abstractmethod
    def measure(self, model: nn.Module, data: Split, generator: torch.Generator) -> Estimate:
        """The score of `model`, which is the metric's own copy: it may be changed.

        Args:
            model: in evaluation mode, all parameters trainable.
            data: training images (N, C, H, W) in the model's dtype and labels (N,), on the model's device.
            generator: a CPU generator for all random draws.
        """


def measure(
    model: nn.Module, data: tuple[torch.Tensor, torch.Tensor], metric: str | Metric, *, seed: int = 0, **options: Any
) -> Estimate:
    """Measure one metric. The model, its buffers and the global random state are left as they were.

    Args:
        model: a classifier, images (N, C, H, W) to logits (N, classes).
        data: training images and integer labels (N,); images are cast to the model's dtype and device.
        metric: the name of a metric, with its options as keywords, or a metric.
        seed: of all random draws.
        options: the metric's options, such as `probes=64`.

    Raises:
        ConfigError: an unknown metric or option, or a value out of its range.
        ScoreError: the score is not a finite number.
    """
    import torch

    if options and not isinstance(metric, str):
        raise ConfigError(f"a metric has its options already: {', '.join(options)} cannot be given beside it")
    chosen = METRICS.create({"name": metric, **options}) if isinstance(metric, str) else metric
    images, labels = data
    reference = next(model.parameters(), None)
    if reference is None:
        raise DataError("measure needs a model with parameters")
    if len(images) != len(labels) or not len(labels):
        raise DataError(
            f"measure needs as many labels as images and at least one: got {len(images)} images, {len(labels)} labels"
        )
    if labels.dim() != 1 or labels.is_floating_point():
        raise DataError(f"measure needs integer labels (N,): got {labels.dtype} {tuple(labels.shape)}")
    split = Split(images.to(reference), labels.to(reference.device, torch.long))
    devices = [reference.device] if reference.device.type == "cuda" else []
    start = time.perf_counter()
    with torch.random.fork_rng(devices), torch.enable_grad():
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach the devices that are not forked, too
        for device in devices:
            torch.cuda.default_generators[device.index].manual_seed(seed)
        private = copy.deepcopy(model).eval().requires_grad_(True)
        estimate = chosen.measure(private, split, torch.Generator().manual_seed(seed))
    if not math.isfinite(estimate.value):
        raise ScoreError(f"the metric {chosen.name!r} is {estimate.value}: not a finite number")
    return replace(estimate, seconds=time.perf_counter() - start)


def subset(data: Split, count: int, generator: torch.Generator) -> Split:
    """`count` images drawn without replacement, or all in their own order if there are no more."""
    import torch

    if count >= len(data):
        return data
    chosen = torch.randperm(len(data), generator=generator)[:count].to(data.labels.device)
    return Split(data.images[chosen], data.labels[chosen])


def mean_and_error(values: torch.Tensor) -> tuple[float, float | None]:
    """Mean of independent draws (n,) and its standard error s / sqrt(n); None for a single draw."""
    values = values.double()
    return float(values.mean()), float(values.std() / len(values) ** 0.5) if len(values) > 1 else None
