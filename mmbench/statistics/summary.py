"""All statistics of one metric over some configurations: one row of correlations.csv."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbench.statistics.controls import role
from mmbench.statistics.correlation import kendall_interval, partial_interval, spearman_interval
from mmbench.statistics.equal_size import CellCorrelations, MeanCorrelation, mean_over_cells
from mmbench.statistics.inference import Correlation
from mmbench.statistics.regret import precision_at, random_regret, regret_at_1
from mmbench.statistics.reliability import ceiling
from mmbench.statistics.sample import CELLS, WITHIN_BASE, Sample, Samples

_INTERVAL = ("spearman", "ci_low", "ci_high", "p_value", "kendall", "partial_spearman", "equal_budget_spearman")
_CELLS = {
    **dict.fromkeys(("low", "high", "p", "q"), "float64"),
    **{"cells": "int64", "n": "int64", "i2": "float64", "signs": "string"},
}
COLUMNS = {
    **dict.fromkeys(("metric", "target", "group"), "string"),
    **dict.fromkeys(("n", "n_configurations"), "int64"),
    **dict.fromkeys((*_INTERVAL, "regret_at_1", "seconds", "cost_fraction"), "float64"),
    **{"expected_sign": "Int64", "sign_agrees": "boolean"},
    **{"role": "string", "remark": "string", "n_base_models": "int64", "interval": "string"},
    **dict.fromkeys(("q_value", "kendall_low", "kendall_high", "partial_low", "partial_high", "partial_p"), "float64"),
    "granulated_kendall": "float64",
    **{f"{WITHIN_BASE}_{name}": _CELLS.get(name, "float64") for name in ("spearman", *_CELLS)},
    **{f"equal_budget_{name}": kind for name, kind in _CELLS.items()},
    "equal_architecture_spearman": "float64",
    **{f"equal_architecture_{name}": _CELLS[name] for name in _CELLS if name != "q"},
    **dict.fromkeys(("sign_error_mean", "sign_error_p90", "sign_error_max"), "float64"),
    "sign_error_environments": "int64",
    **dict.fromkeys(("equal_budget_regret_at_1", "random_regret_at_1", "precision_at_3"), "float64"),
    **dict.fromkeys(("random_precision_at_3", "target_reliability", "score_reliability", "noise_ceiling"), "float64"),
    "seeds": "float64",
}
"""The columns of `correlate`, those of the contract first, and their dtypes."""


class Summaries:
    """The statistics of every metric of one target, cached by metric and rows."""

    def __init__(self, samples: Samples) -> None:
        self.samples = samples
        self._known: dict[tuple[str, bytes], dict[str, Any]] = {}

    def __call__(self, metric: str, inside: NDArray[np.bool_]) -> dict[str, Any]:
        """All statistics of a metric, over the configurations where `inside` (a flag for each row) is true."""
        key = metric, self.samples.rows(metric, inside).tobytes()
        if key not in self._known:
            self._known[key] = summarise(self.samples, self.samples.sample(metric, inside))
        return self._known[key]


def summarise(samples: Samples, sample: Sample) -> dict[str, Any]:
    """The columns of `COLUMNS` for one sample, without those that depend on other rows (q-values)."""
    rho = spearman_interval(sample.score, sample.target, sample.base_number)
    tau = kendall_interval(sample.score, sample.target, rho)
    undefined = math.isnan(rho.rho)
    controls = [sample.size, sample.base_accuracy]
    partial = (
        Correlation() if undefined else partial_interval(sample.score, sample.target, controls, sample.base_number)
    )
    pairs = samples.compare_pairs(sample)
    paid = sample.priced_train.sum()
    has_sign = sample.expected_sign in (-1, 1)
    return {
        "n": int(sample.n.sum()),
        "n_configurations": len(sample),
        "spearman": rho.rho,
        "ci_low": rho.low,
        "ci_high": rho.high,
        "p_value": rho.p_value,
        "kendall": tau.rho,
        "partial_spearman": partial.rho,
        "seconds": sample.seconds.sum() / sample.timed.sum() if sample.timed.sum() else math.nan,
        "cost_fraction": sample.priced_metric.sum() / paid if paid > 0 else math.nan,
        "expected_sign": None if math.isnan(sample.expected_sign) else sample.expected_sign,
        "sign_agrees": rho.rho * sample.expected_sign > 0 if has_sign and not undefined else None,
        "role": role(sample.metric, sample.expected_sign),
        "n_base_models": len(np.unique(sample.base_number)),
        "interval": rho.unit,
        "kendall_low": tau.low,
        "kendall_high": tau.high,
        "partial_low": partial.low,
        "partial_high": partial.high,
        "partial_p": partial.p_value,
        "granulated_kendall": pairs.granulated,
        **dict(zip(("sign_error_mean", "sign_error_p90", "sign_error_max"), pairs.errors, strict=True)),
        "sign_error_environments": len(pairs.environments),
        **_inside(sample),
        **_choice(sample),
        **_noise(samples, sample),
    }


def _inside(sample: Sample) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for kind in CELLS:
        cells = sample.cells(kind)
        found = mean_over_cells(cells)
        mean = found.mean
        values = {
            **{"spearman": mean.rho, "low": mean.low, "high": mean.high, "p": mean.p_value, "cells": found.cells},
            **{"n": found.n, "i2": found.i2, "signs": _signs(cells, found, sample.expected_sign)},
        }
        columns |= {f"{kind}_{name}": value for name, value in values.items()}
    return columns


def _signs(cells: CellCorrelations, mean: MeanCorrelation, expected_sign: float) -> str:
    """In how many cells the sign is the expected one, or, where none is expected, the more frequent one."""
    if not mean.cells:
        return ""
    positive, negative = int((cells.rho > 0).sum()), int((cells.rho < 0).sum())
    agree = {1.0: positive, -1.0: negative}.get(expected_sign, max(positive, negative))
    return f"{agree} of {mean.cells}"


def _choice(sample: Sample) -> dict[str, Any]:
    precision, chance = precision_at(sample.base_number, sample.preference, sample.goal)
    return {
        "regret_at_1": regret_at_1(sample.base_number, sample.preference, sample.goal),
        "equal_budget_regret_at_1": regret_at_1(sample.budget_cell, sample.preference, sample.goal),
        "random_regret_at_1": random_regret(sample.base_number, sample.goal),
        "precision_at_3": precision,
        "random_precision_at_3": chance,
    }


def _noise(samples: Samples, sample: Sample) -> dict[str, Any]:
    of_target = samples.target_reliability(sample.number).mean
    of_score = samples.score_reliability(sample).mean
    return {
        "target_reliability": of_target,
        "score_reliability": of_score,
        "noise_ceiling": ceiling(of_target, of_score),
        "seeds": float(sample.seeds.mean()) if len(sample) else math.nan,
    }
