"""One target of a sweep as arrays, and all statistics of one metric over any part of its configurations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmbench.statistics import regret as selection
from mmbench.statistics.configurations import DIRECTIONS, averaged, counted
from mmbench.statistics.controls import DERIVED, SIZE, role, stem, with_controls
from mmbench.statistics.correlation import Correlation, kendall_interval, partial_interval, spearman_interval
from mmbench.statistics.equal_size import Cells, Pooled, pool, within
from mmbench.statistics.one_choice import Judged, Pairs, judge_pairs, pairs_of
from mmbench.statistics.reliability import Reliability, ceiling, reliability

Array = NDArray[np.float64]
Codes = NDArray[np.int64]
Flags = NDArray[np.bool_]

POOLED = {"equal_budget": "budget_cell", "equal_architecture": "architecture_cell"}
"""The ways of comparing at equal size, and the column that numbers their cells."""


class Sample:
    """The configurations of one metric in one group: the columns of `Panel.units`, taken when they are asked for.

    sign: the sign expected of the correlation, NaN or 0 where theory says nothing. direction: -1 if a larger target is
    worse.
    """

    def __init__(self, metric: str, sign: float, direction: int, source: dict[str, Any], at: Codes) -> None:
        self.metric, self.sign, self.direction, self.at, self._source = metric, sign, direction, at, source
        self._cells: dict[str, Cells] = {}

    def __getattr__(self, name: str) -> Any:
        """A column, kept as an attribute."""
        try:
            values = self.__dict__["_source"][name][self.at]
        except KeyError:
            raise AttributeError(name) from None
        setattr(self, name, values)
        return values

    def __len__(self) -> int:
        return len(self.at)

    @property
    def turn(self) -> int:
        """-1 if theory expects a negative correlation, else 1."""
        return -1 if self.sign < 0 else 1

    @property
    def merit(self) -> Array:
        """The score, turned so that a larger one is preferred."""
        merit: Array = self.turn * self.direction * self.score
        return merit

    @property
    def goal(self) -> Array:
        """The target, turned so that a larger one is better."""
        goal: Array = self.direction * self.target
        return goal

    def cells(self, kind: str) -> Cells:
        """Spearman's rho inside each cell; none for the size itself, of which cells hold rounding only."""
        if kind not in self._cells:
            cell = np.full(len(self), -1) if stem(self.metric) == SIZE else getattr(self, POOLED[kind])
            self._cells[kind] = within(cell, self.base_cell, self.score, self.target)
        return self._cells[kind]


class Panel:
    """The configurations of all metrics, the derived controls included, for one target."""

    def __init__(self, table: pd.DataFrame, target: str) -> None:
        """Take the prepared runs (see `units.prepared`)."""
        self.target, self.table = target, table
        self.direction = DIRECTIONS[target]
        found = counted(table, target)
        self.signs = {metric: one_sign(rows) for metric, rows in table.groupby("metric")["expected_sign"]}
        trainings = table[table["done"] & np.isfinite(table[target])]
        self.units = with_controls(averaged(found, target), trainings, target)
        self.trainings = trainings.groupby(["number", "seed"], dropna=False)[target].mean().reset_index()
        self.pairs: Pairs = pairs_of(self.units.drop_duplicates("number"))
        self.rows: dict[str, Codes] = {
            str(name): np.asarray(at) for name, at in self.units.groupby("metric").indices.items()
        }
        self._runs = _arrays(found, "score")
        self._trained = _arrays(self.trainings.assign(metric=target), target)
        self._size = int(table["number"].max()) + 1 if len(table) else 0
        self._columns: dict[str, Any] = {
            str(name): self.units[name].to_numpy() for name in self.units if self.units[name].dtype.kind in "fi"
        }
        with np.errstate(divide="ignore", invalid="ignore"):
            self._columns["size"] = np.log(self._columns["parameters"].astype(float))
        self._known: dict[Any, dict[str, Any]] = {}

    def sign(self, metric: str) -> float:
        """The sign expected of the correlation of a metric with this target."""
        return 1.0 if metric in DERIVED else self.signs.get(metric, math.nan) * self.direction

    def sample(self, metric: str, inside: Flags | None = None) -> Sample:
        """A metric's configurations, those where `inside` (a flag for each row of `units`) holds."""
        at = self.rows.get(metric, np.zeros(0, dtype=np.int64))
        at = at if inside is None else at[inside[at]]
        return Sample(metric, self.sign(metric), self.direction, self._columns, at)

    def judged(self, metric: str, inside: Flags | None = None) -> dict[str, Any]:
        """All statistics of a metric over some configurations; equal questions are answered once."""
        at = self.rows.get(metric, np.zeros(0, dtype=np.int64))
        key = metric, (at if inside is None else at[inside[at]]).tobytes()
        if key not in self._known:
            self._known[key] = self._judge(self.sample(metric, inside))
        return self._known[key]

    def by_pairs(self, s: Sample) -> Judged:
        """Granulated Kendall and sign errors."""
        return judge_pairs(self.pairs, s.number, s.score, s.target, seed_variance(s), s.n, s.turn)

    def target_reliability(self, numbers: Codes) -> Reliability:
        """How well the target of these configurations repeats from seed to seed."""
        key = "target", numbers.tobytes()
        if key not in self._known:
            self._known[key] = {"found": self._reliability(self._trained.get(self.target), numbers)}
        found: Reliability = self._known[key]["found"]
        return found

    def _reliability(self, runs: tuple[Codes, Array] | None, numbers: Codes) -> Reliability:
        if runs is None:
            return Reliability()
        asked = np.zeros(self._size, dtype=bool)
        asked[numbers] = True
        inside = asked[runs[0]]
        return reliability(runs[0][inside], runs[1][inside])

    def _judge(self, s: Sample) -> dict[str, Any]:
        rho = spearman_interval(s.score, s.target, s.base_cell)
        tau = kendall_interval(s.score, s.target, rho)
        undefined = math.isnan(rho.rho)
        partial = (
            Correlation() if undefined else partial_interval(s.score, s.target, [s.size, s.base_accuracy], s.base_cell)
        )
        pooled = {kind: pool(s.cells(kind)) for kind in POOLED}
        pairs = self.by_pairs(s)
        paid = s.priced_train.sum()
        return {
            "n": int(s.n.sum()),
            "n_configurations": len(s),
            "spearman": rho.rho,
            "ci_low": rho.low,
            "ci_high": rho.high,
            "p_value": rho.p_value,
            "kendall": tau.rho,
            "partial_spearman": partial.rho,
            "equal_budget_spearman": pooled["equal_budget"].rho,
            "regret_at_1": selection.regret_at_1(s.base_cell, s.merit, s.goal),
            "seconds": s.seconds.sum() / s.timed.sum() if s.timed.sum() else math.nan,
            "cost_fraction": s.priced_metric.sum() / paid if paid > 0 else math.nan,
            "expected_sign": None if math.isnan(s.sign) else s.sign,
            "sign_agrees": rho.rho * s.sign > 0 if not undefined and s.sign in (-1, 1) else None,
            "role": role(s.metric, s.sign),
            "n_base_models": len(np.unique(s.base_cell)),
            "interval": rho.unit,
            "kendall_low": tau.low,
            "kendall_high": tau.high,
            "partial_low": partial.low,
            "partial_high": partial.high,
            "partial_p": partial.p_value,
            "granulated_kendall": pairs.granulated,
            **{k: v for kind, found in pooled.items() for k, v in pooled_columns(kind, found, s).items()},
            **dict(zip(("sign_error_mean", "sign_error_p90", "sign_error_max"), pairs.errors, strict=True)),
            "sign_error_environments": len(pairs.environments),
            **self._selected(s),
            **self._repeated(s),
        }

    def _selected(self, s: Sample) -> dict[str, Any]:
        hit, luck = selection.precision_at(s.base_cell, s.merit, s.goal)
        return {
            "equal_budget_regret_at_1": selection.regret_at_1(s.budget_cell, s.merit, s.goal),
            "random_regret_at_1": selection.random_regret(s.base_cell, s.goal),
            "precision_at_3": hit,
            "random_precision_at_3": luck,
        }

    def _repeated(self, s: Sample) -> dict[str, Any]:
        of_target = self.target_reliability(s.number)
        of_score = self._reliability(self._runs.get(s.metric), s.number).mean
        return {
            "target_reliability": of_target.mean,
            "score_reliability": of_score,
            "noise_ceiling": ceiling(of_target.mean, of_score),
            "seeds": float(s.seeds.mean()) if len(s) else math.nan,
        }


def _arrays(runs: pd.DataFrame, column: str) -> dict[str, tuple[Codes, Array]]:
    """Configuration number and value of each run, by metric."""
    return {
        str(name): (rows["number"].to_numpy(), rows[column].to_numpy(dtype=float))
        for name, rows in runs.groupby("metric")
    }


def pooled_columns(kind: str, found: Pooled, s: Sample) -> dict[str, Any]:
    """The columns of one pooled correlation."""
    cells = s.cells(kind)
    turned = np.sign(cells.rho) * s.sign if s.sign in (-1, 1) else np.sign(cells.rho)
    positive, negative = int((turned > 0).sum()), int((turned < 0).sum())
    agree = positive if s.sign in (-1, 1) else max(positive, negative)
    columns = {
        f"{kind}_low": found.low,
        f"{kind}_high": found.high,
        f"{kind}_p": found.p_value,
        f"{kind}_cells": found.cells,
        f"{kind}_n": found.n,
        f"{kind}_i2": found.i2,
        f"{kind}_signs": f"{agree} of {found.cells}" if found.cells else "",
    }
    return columns if kind == "equal_budget" else {f"{kind}_spearman": found.rho, **columns}


def one_sign(values: pd.Series) -> float:
    """A metric's expected sign; NaN if its records have none, or contradict each other."""
    found = values.dropna().unique()
    return float(found[0]) if len(found) == 1 else math.nan


def seed_variance(s: Sample) -> Array:
    """The target's variance from seed to seed, pooled over the configurations of each base model; NaN if unknown."""
    freedom = np.where(np.isfinite(s.target_sd), s.n - 1, 0)
    squares = np.where(freedom > 0, freedom * np.nan_to_num(s.target_sd) ** 2, 0.0)
    size = int(s.base_cell.max(initial=-1)) + 1
    with np.errstate(divide="ignore", invalid="ignore"):
        pooled: Array = np.bincount(s.base_cell, squares, size) / np.bincount(s.base_cell, freedom, size)
    return pooled[s.base_cell]
