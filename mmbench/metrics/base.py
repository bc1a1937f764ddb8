"""What a metric is, and the functions that measure one without side effects."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from mmbench.arguments import several, shown, whole
from mmbench.data.base import Split
from mmbench.data.given import pair_of
from mmbench.errors import ConfigError, DataError, MmbenchError, ScoreError
from mmbench.metrics.subject import Base, Expand, Subject
from mmbench.models.measurable import full_dtype
from mmbench.models.table import Table
from mmbench.registry import Component, Registry
from mmbench.training.moments import Moment


@dataclass(frozen=True)
class Estimate:
    """A score with its standard error.

    The error covers the estimator's own randomness (probes, batches, branches and, where known, the choice of images).
    It is 0 for an exact score and None where it is unknown, as for a single draw.
    """

    value: float
    stderr: float | None
    seconds: float = math.nan
    """Wall-clock cost, including results shared with other metrics."""
    details: Mapping[str, float | str | list[float]] = field(default_factory=dict)
    """By-products by name; a list is a curve."""
    costs: Mapping[str, float] = field(default_factory=dict)
    """Seconds by name: of the score's parts, and of additional measurements that `seconds` leaves out."""
    tensors: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """Raw measurements by name; a run stores them with the score."""


class Metric(Component):
    """Base of all metrics. The fields of a subclass are its options."""

    expected_sign: ClassVar[Literal[-1, 0, 1]]
    """+1 if theory predicts a larger gain for a larger score, -1 for a smaller one, 0 if it makes no prediction."""

    after: Moment = 0
    """The moment of the expanded model's training at which it is measured: steps, or epochs such as `5epochs`."""

    compares: ClassVar[bool] = False
    """Whether the score compares the network with measurements of its base model: see `reference`."""

    @property
    def definition(self) -> str:
        """What exactly is measured, in one line: the name and the options that differ from the default.

        The training recipe is left out: in a run, it is the run's own.
        """
        fields = type(self).model_fields
        changed = (f"{key}={value}" for key, value in self if key != "training" and value != fields[key].default)
        return f"{self.name}({', '.join(changed)})"

    def reference(self, base: Subject) -> Mapping[str, torch.Tensor]:
        """What the metric measures on the base model alone, for all networks that are expanded from it.

        `measure` gets it from `subject.reference(self)`. A run stores it as a stage of its own, under the hash of the
        base model and of `reference_options`. A metric that implements this sets `compares`.

        Args:
            base: the base model, with the images of the subjects that are compared with it.

        Returns:
            Tensors by name.
        """
        raise NotImplementedError

    def reference_options(self) -> dict[str, Any]:
        """The options that `reference` depends on; by default all but the moment."""
        return {key: value for key, value in self.describe().items() if key != "after"}

    def check_tables(self, base: Table, large: Table) -> None:
        """Refuse networks before any of them is trained; most metrics have nothing to check.

        Args:
            base: the axis table of the base model.
            large: that of the expanded model.

        Raises:
            UndefinedError: the metric is not defined for them.
        """

    @abstractmethod
    def measure(self, subject: Subject) -> Estimate:
        """The score of the subject's network.

        `subject.surface(n)` is the loss on n training images, `subject.network()` a copy that may be changed, and
        `subject.generator(self.name)` the source of all random draws. Use `subject.once` for results that other
        metrics may need, too.
        """


METRICS: Registry[Metric] = Registry("metric", "mmbench.metrics")


LARGEST = 1e6
"""The largest value of a pixel that is measured."""
Images = tuple["torch.Tensor", "torch.Tensor"]


def measure(
    model: nn.Module,
    data: Any,
    metric: str | Mapping[str, Any] | Metric,
    *,
    seed: int = 0,
    validation: Any = None,
    base: nn.Module | None = None,
    expand: Expand | None = None,
    **options: Any,
) -> Estimate:
    """Measure one metric. The model, its buffers and the global random state are left as they were.

    Args:
        model: a classifier, images (N, C, H, W) to logits (N, classes).
        data: training images and integer labels (N,), tensors or arrays; or a data set of such examples; or a loader of
            batches. Cast to the model's dtype (float32 for a model in half precision) and device.
        metric: the name of a metric, with its options as keywords; or a dictionary of both; or a metric.
        seed: of all random draws.
        validation: held-out images and labels, which some metrics need.
        base: the network that `model` was expanded from, which some metrics need.
        expand: the expansion, which some metrics repeat: takes a network like `base` and the number of a draw, and
            returns one like `model`; draw 0 is the one that produced `model`.
        options: the metric's options, such as `probes=64`.

    Raises:
        ConfigError: an unknown metric or option, or a value out of its range.
        DataError: images and labels that do not match.
        ScoreError: the score is not a finite number, or the network is dead or has diverged.
        UndefinedError: the metric is not defined for this network.

    Returns:
        The score, its standard error and its cost.
    """
    if options and not isinstance(metric, str):
        raise ConfigError(f"this Metric already has its options: give {', '.join(options)} when you create it")
    chosen = METRICS.made({"name": metric, **options} if isinstance(metric, str) else metric, Metric)  # type: ignore[type-abstract]
    if chosen.after:
        raise ConfigError(f"metric.after = {chosen.after} is for runs; here, give the network as it is at that moment")
    return score(chosen, subject_of(model, data, seed=seed, validation=validation, base=base, expand=expand))


def measure_all(
    model: nn.Module,
    data: Any,
    metrics: Iterable[str | Mapping[str, Any] | Metric] | str | Metric | None = None,
    *,
    seed: int = 0,
    validation: Any = None,
    base: nn.Module | None = None,
    expand: Expand | None = None,
) -> Mapping[str, Estimate | MmbenchError]:
    """Measure several metrics together: what they share is computed once.

    Args:
        model: a classifier, images (N, C, H, W) to logits (N, classes).
        data: training images and integer labels (N,), tensors or arrays; or a data set of such examples; or a loader of
            batches. Cast to the model's dtype (float32 for a model in half precision) and device.
        metrics: names or metrics; all registered ones, with their default options, if it is not given.
        seed: of all random draws.
        validation: held-out images and labels, which some metrics need.
        base: the network that `model` was expanded from, which some metrics need.
        expand: the expansion, which some metrics repeat; see `measure`.

    Returns:
        By name, what `measure` returns for each metric, or the error of a metric that failed; the others are still
        measured.

    Raises:
        ConfigError: an unknown metric.
        DataError: images and labels that do not match.
    """
    allowed = f"names of metrics ({', '.join(METRICS.names())}), or metrics"
    one = [metrics] if isinstance(metrics, Metric) else METRICS.names() if metrics is None else metrics
    chosen = [METRICS.made(metric, Metric, "metrics") for metric in several("metrics", one, allowed)]  # type: ignore[type-abstract]
    subject = subject_of(model, data, seed=seed, validation=validation, base=base, expand=expand)
    results: dict[str, Estimate | MmbenchError] = {}
    for metric in chosen:
        try:
            results[metric.name] = score(metric, subject)
        except MmbenchError as error:
            results[metric.name] = error
        except Exception as error:  # a bug of ours or of the network; the other metrics' work must not be lost
            results[metric.name] = MmbenchError(f"{metric.name} failed: {type(error).__name__}: {error}")
    return results


def score(metric: Metric, subject: Subject) -> Estimate:
    """Measure one metric on a subject; its cost includes shared results. Raises the same errors as `measure`."""
    device = subject.train.labels.device
    with (
        torch.random.fork_rng([device] if device.type == "cuda" else []),
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(device.type, enabled=False),
    ):
        seed = subject.generator(metric.name).initial_seed()
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also seed devices that are not forked
        if device.type == "cuda":
            torch.cuda.default_generators[device.index].manual_seed(seed)
        estimate, seconds = subject.measured(metric.measure)
    if not math.isfinite(estimate.value):
        raise ScoreError(f"the metric {metric.name!r} is {estimate.value}: not a finite number")
    return replace(estimate, seconds=seconds)


def subject_of(
    model: nn.Module,
    data: Any,
    *,
    seed: int = 0,
    images_seed: int | None = None,
    validation: Any = None,
    base: nn.Module | Base | None = None,
    expand: Expand | None = None,
) -> Subject:
    """A subject from a model and tensors of any dtype and device.

    Args:
        model: a classifier with floating-point parameters, images (N, C, H, W) to logits (N, classes).
        data: training images and integer labels (N,), tensors or arrays; or a data set of such examples; or a loader of
            batches. Cast to the model's dtype (float32 for a model in half precision) and device.
        seed: of all random draws except the choice of images.
        images_seed: of the choice of images; `seed` if it is not given.
        validation: held-out images and labels.
        base: the network that `model` was expanded from.
        expand: the expansion; see `measure`.

    Returns:
        The subject.

    Raises:
        ConfigError: `seed` is no integer, or `expand` no function.
        DataError: not a network, or images and labels that do not match.
    """
    reference = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    if reference is None:
        raise DataError(f"measure needs a network (nn.Module) with parameters: got {type(model).__name__}")
    if not reference.is_floating_point():
        raise DataError(f"measure needs a network with floating-point parameters: got {reference.dtype}")
    before = base.model if isinstance(base, Base) else base
    if before is not None and not isinstance(before, nn.Module):
        raise DataError(
            f"base must be a network (nn.Module), the one before its expansion: got {type(before).__name__}"
        )
    if expand is not None and not callable(expand):
        raise ConfigError(
            f"expand = {shown(expand)} is not allowed: must be a function of a network like base and the number of a "
            "draw, such as lambda small, draw: mmbench.expand(small, 'net2wider', seed=draw)"
        )
    seed = whole("seed", seed)
    target = torch.empty(0, dtype=full_dtype(model), device=reference.device)
    train = _split(data, target, "")
    held_out = None if validation is None else _split(validation, target, " as validation")
    return Subject(model, train, validation=held_out, base=base, expand=expand, seed=seed, images_seed=images_seed)


def _split(data: Any, reference: torch.Tensor, purpose: str) -> Split:
    try:
        images, labels = (part.detach() for part in pair_of(data))
    except ConfigError as error:
        raise DataError(f"measure needs a pair of tensors, images and labels{purpose}: {error}") from error
    if images.dim() == 0 or labels.dim() == 0 or len(images) != len(labels) or not len(labels):
        raise DataError(
            f"measure needs as many labels as images and at least one{purpose}: "
            f"got {len(images)} images, {len(labels)} labels"
        )
    if labels.dim() != 1 or labels.is_floating_point():
        raise DataError(f"measure needs integer labels (N,){purpose}: got {labels.dtype} {tuple(labels.shape)}")
    with torch.inference_mode(False):
        raw = images.dtype
        images, labels = images.to(reference), labels.to(reference.device, torch.long)
        if images.is_inference():
            images = images.clone()
    if int(labels.min()) < 0:
        raise DataError(f"label {int(labels.min())}{purpose} is out of range: classes are numbered from 0")
    if raw is torch.uint8:
        raise DataError(
            f"the images{purpose} are bytes (uint8, 0 to 255); give them as the network was trained on, such as "
            "images.float() / 255, less the mean and over the standard deviation"
        )
    if not torch.isfinite(images).all():
        bad = (~torch.isfinite(images.flatten(1))).any(1).nonzero().flatten().tolist()
        raise DataError(f"{len(bad)} images{purpose} have pixels that are not finite numbers, image {bad[0]} the first")
    if float(images.abs().max()) > LARGEST:
        raise DataError(
            f"the images{purpose} have values up to {float(images.abs().max()):.3g}; networks are trained on images of "
            "order one, so a score would be of rounding errors: normalise them"
        )
    return Split(images, labels)


def mean_and_error(values: torch.Tensor) -> tuple[float, float | None]:
    """Mean of independent draws (n,) and its standard error s / sqrt(n); None for a single draw."""
    values = values.double()
    return float(values.mean()), float(values.std() / len(values) ** 0.5) if len(values) > 1 else None
