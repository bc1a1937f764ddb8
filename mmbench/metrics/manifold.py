"""Size of the set of linearly connected minima around a network: a declared family of scores.

This is a family of our own, not the metric of the paper that this project examines (arXiv:2405.15895), which counts
permutations of the network itself. A member is a choice of sampler x connectivity x size x normaliser:

    sampler       where the points w_1 ... w_K come from (`_samplers.py`), and when: after `trunk` of the training
    connectivity  the barrier b_ij on the line between two points (Entezari et al., 2022) lies below eps, on a grid
    size          of the connected cloud (`landscape/sizes.py`): pairwise distance, component, volume, radius, ...
    normaliser    the unit of lengths: none, ||w_0||, sqrt(P), or each filter's norm
    minus         what is taken off: nothing, the size that widening alone would give (`symmetry`), or that of points
                  as far away in random directions (`cloud`)

Where the expansion is known, runs and `advise` take other defaults (`where_expanded`): expansions with draws of their
own, trained, and permuted to match (docs/evidence.md).

Expected sign +1: a large connected manifold is said to mean a large gain.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

import numpy as np
import torch
from pydantic import Field, Strict, model_validator
from torch import Tensor

from mmbench.landscape.branches import shortened
from mmbench.landscape.sizes import (
    GATED,
    LENGTHS,
    STARS,
    Cloud,
    Gate,
    Normaliser,
    Rule,
    Size,
    connections,
    lengths,
    size_of,
    standard_error,
)
from mmbench.landscape.survey import Survey, survey
from mmbench.metrics._samplers import NULLS, Points, Sampler, sample
from mmbench.metrics.base import METRICS, Estimate, Metric
from mmbench.metrics.subject import Subject
from mmbench.training.recipes import SGD, AnyTraining

T = TypeVar("T")
Thresholds = Annotated[tuple[Annotated[float, Field(gt=0)], ...], Strict(False), Field(min_length=1)]


@METRICS.register("manifold")
class Manifold(Metric):
    """A size of a cloud of trained copies; the standard error is the jackknife's over its points (three at least)."""

    expected_sign = 1
    where_expanded: ClassVar[Mapping[str, Any]] = {
        "sampler": "permute_align", "fraction": 0.05, "normaliser": "none", "minus": "none",
    }  # fmt: skip

    sampler: Sampler = "sgd_branch"
    """Where the points come from."""
    branches: int = Field(3, ge=2)
    """K, the number of points; K (K - 1) / 2 pairs are joined."""
    trunk: float = Field(0.0, ge=0, lt=1)
    """Fraction of the training after which the points leave the one trajectory; 0 is just after the expansion."""
    fraction: float = Field(0.025, gt=0, le=1)
    """Length of a point's own training as a fraction of the whole; 1 trains each to the end."""
    lr_factor: float = Field(1.0, gt=0)
    """Factor on the learning rate of the points' own training."""
    noise: float = Field(0.1, gt=0)
    """Of perturb_retrain, in units of each tensor's root mean square."""
    thresholds: Thresholds = (0.01, 0.03, 0.1, 0.3, 1.0)
    """The grid of eps; sizes that count connections are averaged over it."""
    relative: bool = True
    """Whether eps is in units of the points' mean loss, not in nats (or error rate)."""
    height: Literal["loss", "error"] = "loss"
    """What the barrier is of."""
    alphas: int = Field(3, ge=3)
    """Equally spaced points of each line at which the loss is taken, both ends included."""
    refine: int = Field(0, ge=0)
    """Further points, where the line is highest so far."""
    images: int = Field(64, ge=1)
    """Images on which lines are looked at; the points' training is on all."""
    held_out: bool = False
    """Whether these are validation images instead of training images."""
    statistics: Literal["recompute", "keep", "fold"] = "recompute"
    """Batch norm on the line: statistics of the images at hand, interpolated running ones, or folded into the weights
    before interpolating."""
    size: Size = "distance"
    """What is read off the cloud."""
    gate: Gate = "pair"
    """Which pairs count for `distance`: the connected ones, those inside the largest component, or all."""
    normaliser: Normaliser = "filter"
    """The unit of lengths; sizes without a unit have none."""
    minus: Literal["auto", "none", "symmetry", "cloud"] = "auto"
    """What is subtracted from the size; `auto`: the symmetry null where there is one and the expansion is known."""
    rise: float = Field(0.5, gt=0)
    """Where a ray of `star_radius` and `star_multiplier` ends: nats above the loss of the centroid."""
    report_null: bool = True
    """Whether `details.symmetry_null` is measured where it can be; its cost is not the score's, it is in `costs`."""
    training: AnyTraining = SGD()
    """The recipe that the points' training shortens; in a run it is the run's."""

    @model_validator(mode="after")
    def _leaves_the_trunk(self) -> Self:
        if self.trunk and NULLS.get(self.sampler) != "symmetry_null":
            raise ValueError(
                f"metric.trunk = {self.trunk:g} is for metric.sampler = sgd_branch or perturb_retrain: the points of "
                f"{self.sampler} start from expansions of their own"
            )
        return self

    @model_validator(mode="after")
    def _has_its_null(self) -> Self:
        if self.minus == "symmetry" and (self.trunk or self.sampler in NULLS.values()):
            raise ValueError(
                f"metric.minus = symmetry is for metric.trunk = 0 and a sampler that is not a null itself: got trunk = "
                f"{self.trunk:g}, sampler = {self.sampler}"
            )
        return self

    @property
    def definition(self) -> str:
        """The choices that define this member of the family, in one line."""
        moment = f" after {self.trunk:g}" if self.trunk else ""
        walk = f"{self.fraction:g} of training" + (f", lr x {self.lr_factor:g}" if self.lr_factor != 1 else "")
        noise = f", noise {self.noise:g}" if self.sampler == "perturb_retrain" else ""
        eps = "/".join(f"{eps:g}" for eps in self.thresholds) + (" of the loss" if self.relative else "")
        line = f"{self.alphas}{f'+{self.refine}' if self.refine else ''} points"
        data = f"{self.images} {'held-out' if self.held_out else 'training'} images, {self.statistics}"
        parts = [f"{self.sampler}(K={self.branches}{moment}, {walk}{noise})"]
        if self.size in GATED and not (self.size == "distance" and self.gate == "none"):
            parts.append(f"{self.height} barrier < {eps} ({line}, {data})")
        gate = f" by {self.gate}" if self.size == "distance" else ""
        parts.append(self.size + gate + (f", rise {self.rise:g} ({data})" if self.size in STARS else ""))
        if self.size in LENGTHS:
            parts.append({"none": "no unit", "norm": "/ ||w0||", "sqrt_p": "/ sqrt(P)", "filter": "by filter"}[
                self.normaliser
            ])  # fmt: skip
        less = {"auto": " | minus symmetry null where known", "none": ""}
        return " | ".join(parts) + less.get(self.minus, f" | minus {self.minus} null")

    def measure(self, subject: Subject) -> Estimate:
        """The size of the cloud, less that of its null.

        Returns:
            The estimate. Its `details` hold all that any other size can be read from
            (`mmbench.landscape.sizes.Cloud.of`), of the cloud and, after `null_`, of its symmetry null; both nulls;
            and, for figures, the mean training loss on the way to the points (`losses` at `steps`) and the mean loss
            on the lines (`line`). Its `costs` are the seconds of the points, of the survey and of the symmetry null.
        """
        place = self._place(subject)
        points, sampling = self._points(self.sampler, place)
        seen, surveying = self._survey(self.sampler, place, subject)
        there_is_one = subject.knows_its_expansion and not self.trunk and self.sampler in NULLS
        minus = ("symmetry" if there_is_one else "none") if self.minus == "auto" else self.minus
        cloud, null_seconds = self._chosen(seen), 0.0
        nulls = {"cloud": cloud.scattered()}
        if minus == "symmetry":
            nulls["symmetry"] = self._null_cloud(place, subject)
        elif self.report_null and there_is_one:
            nulls["symmetry"], null_seconds = subject.aside(lambda: self._null_cloud(place, subject))
        taken_off = [] if minus == "none" else [nulls[minus]]
        apart, pairs = lengths(cloud, self.normaliser)[1:, 1:], np.triu_indices(len(cloud), 1)
        return Estimate(
            self._size(cloud) - sum(map(self._size, taken_off)),
            standard_error(self._size, cloud, *taken_off),
            details={
                **{f"{name}_null": self._size(null) for name, null in nulls.items()},
                **({f"null_{k}": v for k, v in nulls["symmetry"].listed().items()} if "symmetry" in nulls else {}),
                "distance": float(apart[pairs].mean()),
                "barrier": float(cloud.barriers[pairs].mean()),
                "connected": float(np.mean([joined[pairs].mean() for joined in connections(cloud, self._rule)])),
                "branch_loss": float(cloud.losses.mean()),
                **seen.cloud.listed(),
                "error_barriers": seen.error_barriers[pairs].tolist(),
                "line": seen.line,
                **_course(points.losses),
            },
            costs={"sampling_seconds": sampling, "survey_seconds": surveying, "null_seconds": null_seconds},
        )

    @property
    def _rule(self) -> Rule:
        return Rule(self.thresholds, self.relative, self.gate, self.normaliser)

    def _size(self, cloud: Cloud) -> float:
        return size_of(self.size, cloud, self._rule)

    def _chosen(self, seen: Survey) -> Cloud:
        return replace(seen.cloud, barriers=seen.error_barriers) if self.height == "error" else seen.cloud

    def _place(self, subject: Subject) -> Subject:
        """The subject at the moment at which the points leave."""
        steps = round(self.trunk * self.training.steps)
        return subject.in_state("trained", steps, self.training) if steps else subject

    def _points(self, sampler: Sampler, place: Subject) -> tuple[Points, float]:
        """The points and the seconds they took."""
        recipe = shortened(self.training, self.fraction, self.lr_factor)
        return place.once(
            self._key(sampler), lambda: timed(lambda: sample(sampler, place, self.branches, recipe, self.noise))
        )

    def _survey(self, sampler: Sampler, place: Subject, subject: Subject) -> tuple[Survey, float]:
        """What was seen on the points, and the seconds it took."""
        points, _ = self._points(sampler, place)
        images = subject.surface(self.images).images
        if self.held_out:
            images = subject.held_out_images(self.images)
        rise = self.rise if self.size in STARS else None
        looks = self.alphas, self.refine, self.statistics, rise
        return place.once(
            ("survey", *self._key(sampler), self.images, self.held_out, *looks),
            lambda: timed(lambda: survey(points.start, points.models, images, *looks)),
        )

    def _null_cloud(self, place: Subject, subject: Subject) -> Cloud:
        return self._chosen(self._survey(NULLS[self.sampler], place, subject)[0])

    def _key(self, sampler: Sampler) -> tuple[Any, ...]:
        """What the points depend on."""
        noise = self.noise if sampler == "perturb_retrain" else None
        recipe = repr(self.training.describe())
        return "points", sampler, self.branches, self.fraction, self.lr_factor, noise, recipe


def timed(compute: Callable[[], T]) -> tuple[T, float]:
    """What `compute` returns, and its seconds."""
    start = time.perf_counter()
    result = compute()
    return result, time.perf_counter() - start


def _course(losses: Sequence[Tensor], shares: int = 20) -> dict[str, list[float]]:
    """Mean loss of the branches in equal shares of their steps, and the shares' middles: a curve that a record holds.

    Shares beyond the number of steps are left out; of branches that were not trained there is nothing.

    Returns:
        `losses` and `steps`, or nothing.
    """
    if not losses:
        return {}

    mean = torch.stack([loss.double() for loss in losses]).mean(0)
    parts = mean.tensor_split(min(shares, len(mean)))
    ends = torch.tensor([len(part) for part in parts], dtype=torch.double).cumsum(0)
    middles = [float(end) - len(part) / 2 for end, part in zip(ends, parts, strict=True)]
    return {"losses": [float(part.mean()) for part in parts], "steps": middles}
