"""The samples that statistics are computed from: one metric's configurations in one group, as arrays."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmbench.statistics.configurations import average_seeds, scored
from mmbench.statistics.controls import DERIVED, SIZE, with_controls
from mmbench.statistics.correlation import ranks_within
from mmbench.statistics.equal_size import CellCorrelations, correlate_cells
from mmbench.statistics.one_choice import PairStatistics, compare_pairs, pairs_of
from mmbench.statistics.reliability import Reliability, reliability
from mmbench.statistics.seed_luck import without_seed_luck
from mmbench.statistics.target import DIRECTIONS
from mmbench.text import metric_name

Array = NDArray[np.float64]
Codes = NDArray[np.int64]
Flags = NDArray[np.bool_]

WITHIN_BASE = "within_base"
CELLS = {WITHIN_BASE: "base_cell", "equal_budget": "budget_cell", "equal_architecture": "architecture_cell"}
"""The ways of comparing like with like, and the column that numbers their cells."""


@dataclass(frozen=True)
class Sample:
    """The configurations of one metric in one group; every array has one value per configuration."""

    metric: str
    expected_sign: float
    """Of the correlation; NaN or 0 where theory says nothing."""
    direction: int
    """-1 if a larger target is worse, else 1."""
    number: Codes
    base_number: Codes
    base_cell: Codes
    budget_cell: Codes
    architecture_cell: Codes
    n: Codes
    """Runs."""
    seeds: Codes
    score: Array
    target: Array
    target_sd: Array
    size: Array
    """Log parameters."""
    base_accuracy: Array
    seconds: Array
    """Total of the runs that were timed."""
    timed: Codes
    priced_metric: Array
    """Seconds of the metric, and of training, over the runs that have both."""
    priced_train: Array

    def __len__(self) -> int:
        """Configurations."""
        return len(self.number)

    @property
    def sign(self) -> int:
        """-1 if theory expects a negative correlation, else 1."""
        return -1 if self.expected_sign < 0 else 1

    @property
    def preference(self) -> Array:
        """The score, with its sign turned so that a larger one is preferred."""
        return self.sign * self.direction * self.score

    @property
    def goal(self) -> Array:
        """The target, with its sign turned so that a larger one is better."""
        return self.direction * self.target

    def cells(self, kind: str) -> CellCorrelations:
        """Spearman's rho inside each cell; none for size at equal size, where it differs only by rounding."""
        own = metric_name(self.metric) == SIZE and kind != WITHIN_BASE
        cell = np.full(len(self), -1) if own else getattr(self, CELLS[kind])
        return correlate_cells(cell, self.base_number, self.score, self.target)

    def seed_variance(self) -> Array:
        """The target's variance from seed to seed, one for each base model; NaN if unknown."""
        freedom = np.where(np.isfinite(self.target_sd), self.n - 1, 0)
        squares = np.where(freedom > 0, freedom * np.nan_to_num(self.target_sd) ** 2, 0.0)
        size = int(self.base_number.max(initial=-1)) + 1
        with np.errstate(divide="ignore", invalid="ignore"):
            variance: Array = np.bincount(self.base_number, squares, size) / np.bincount(
                self.base_number, freedom, size
            )
        return variance[self.base_number]


class Samples:
    """The samples of every metric, the derived controls included, for one target."""

    def __init__(self, runs: pd.DataFrame, target: str) -> None:
        """Take prepared runs (see `configurations.prepare`)."""
        self.target, self.direction = target, DIRECTIONS[target]
        with_target = without_seed_luck(runs[runs["done"] & np.isfinite(runs[target])], target)
        with_score = scored(with_target, target)
        self.expected_signs = {metric: _one_sign(rows) for metric, rows in runs.groupby("metric")["expected_sign"]}
        self.configurations = with_controls(average_seeds(with_score, target), with_target, target)
        """One row per metric and configuration, as of `average_seeds`."""
        self.trainings = with_target.groupby(["number", "seed"], dropna=False)[target].mean().reset_index()
        """One row per configuration and seed, whatever was measured on it."""
        known = self.configurations.drop_duplicates("number").set_index("number")
        self._base_cell = np.full(int(runs["number"].max()) + 1 if len(runs) else 0, -1)
        self._base_cell[known.index.to_numpy(dtype=int)] = known["base_cell"].to_numpy()
        self._rows = {
            str(name): np.asarray(rows) for name, rows in self.configurations.groupby("metric").indices.items()
        }
        self._pairs = pairs_of(self.configurations.drop_duplicates("number"))
        self._scores = {
            str(name): tuple(rows[column].to_numpy(dtype=float) for column in ("number", "seed", "score"))
            for name, rows in with_score.groupby("metric")
        }
        self._reliabilities: dict[bytes, Reliability] = {}
        with np.errstate(divide="ignore", invalid="ignore"):
            size = np.log(self.configurations["parameters"].to_numpy(dtype=float))
        names = Sample.__dataclass_fields__.keys() - {"metric", "expected_sign", "direction", "size"}
        self._columns: dict[str, Any] = {name: self.configurations[name].to_numpy() for name in names} | {"size": size}

    @property
    def metrics(self) -> list[str]:
        """The metrics that have a score, and the derived controls that could be computed."""
        return list(self._rows)

    def expected_sign(self, metric: str) -> float:
        """The sign expected of the correlation of a metric with this target."""
        return 1.0 if metric in DERIVED else self.expected_signs.get(metric, math.nan) * self.direction

    def rows(self, metric: str, inside: Flags | None = None) -> Codes:
        """The rows of `configurations` that hold a metric, those where `inside` (a flag for each row) is true."""
        rows = self._rows.get(metric, np.zeros(0, dtype=np.int64))
        return rows if inside is None else rows[inside[rows]]

    def sample(self, metric: str, inside: Flags | None = None) -> Sample:
        """A metric's configurations, those where `inside` (a flag for each row of `configurations`) is true."""
        rows = self.rows(metric, inside)
        columns = {name: values[rows] for name, values in self._columns.items()}
        return Sample(metric, self.expected_sign(metric), self.direction, **columns)

    def compare_pairs(self, sample: Sample) -> PairStatistics:
        """Granulated Kendall and sign errors of a sample."""
        return compare_pairs(
            self._pairs, sample.number, sample.score, sample.target, sample.seed_variance(), sample.n, sample.sign
        )

    def target_reliability(self, numbers: Codes) -> Reliability:
        """How well the target orders the expansions among these configurations from seed to seed."""
        key = numbers.tobytes()
        if key not in self._reliabilities:
            number, seed, values = (self.trainings[name].to_numpy(float) for name in ("number", "seed", self.target))
            self._reliabilities[key] = self._reliability(number, seed, values, numbers)
        return self._reliabilities[key]

    def score_reliability(self, sample: Sample) -> Reliability:
        """How well the ranks of the score inside base models repeat; unknown for the controls that are not measured."""
        if sample.metric not in self._scores:
            return Reliability()
        number, seed, values = self._scores[sample.metric]
        return self._reliability(number, seed, values, sample.number, ranked=True)

    def _reliability(
        self, number: Array, seed: Array, values: Array, numbers: Codes, ranked: bool = False
    ) -> Reliability:
        place = number.astype(np.int64)
        inside = np.isin(place, numbers) & (self._base_cell[place] >= 0)
        place, values = place[inside], values[inside]
        seeds, base = np.nan_to_num(seed[inside], nan=-1).astype(np.int64), self._base_cell[place]
        return reliability(place, seeds, base, ranks_within(base, values) if ranked else values)


def _one_sign(signs: pd.Series) -> float:
    """A metric's expected sign; NaN if its records have none, or contradict each other."""
    known = signs.dropna().unique()
    return float(known[0]) if len(known) == 1 else math.nan
