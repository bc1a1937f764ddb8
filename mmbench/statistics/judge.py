"""How well each metric ranks expansions by what they bring.

The unit of all statistics is the configuration (everything in a run but its metric and its seed), not the run: score
and target are averaged over seeds first, and ranks are taken over configurations. Only runs that are done and have a
finite score and a finite target count; `exclusions` lists the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmbench.statistics import tables, words
from mmbench.statistics.configurations import (
    CONTROLS,
    DIRECTIONS,
    KEYS,
    TARGET_WORDS,
    TARGETS,
    configurations,
    mixed,
    prepared,
    runs,
)
from mmbench.statistics.controls import BASELINES, DERIVED, LOOKUP, SECOND, SIZE, role
from mmbench.statistics.correlation import interval, partial_spearman
from mmbench.statistics.differences import Difference, paired
from mmbench.statistics.panel import Panel
from mmbench.statistics.words import ENOUGH

Flags = NDArray[np.bool_]

__all__ = [
    "BASELINES",
    "CONTROLS",
    "DERIVED",
    "DIRECTIONS",
    "ENOUGH",
    "LOOKUP",
    "SECOND",
    "SIZE",
    "TARGETS",
    "TARGET_WORDS",
    "Difference",
    "Judgement",
    "compare",
    "configurations",
    "correlate",
    "decided",
    "interval",
    "judge",
    "mixed",
    "partial_spearman",
    "ranked",
    "role",
    "runs",
]

_FLOATS = ("spearman", "ci_low", "ci_high", "p_value", "kendall", "partial_spearman", "equal_budget_spearman")
_POOLED = ("_low", "_high", "_p", "_cells", "_n", "_i2", "_signs")
COLUMNS = {
    **dict.fromkeys(("metric", "target", "group"), "string"),
    **dict.fromkeys(("n", "n_configurations"), "int64"),
    **dict.fromkeys((*_FLOATS, "regret_at_1", "seconds", "cost_fraction"), "float64"),
    **{"expected_sign": "Int64", "sign_agrees": "boolean"},
    **{"role": "string", "words": "string", "n_base_models": "int64", "interval": "string"},
    **dict.fromkeys(("q_value", "kendall_low", "kendall_high", "partial_low", "partial_high", "partial_p"), "float64"),
    "granulated_kendall": "float64",
    **{
        f"equal_budget{part}": {"_cells": "int64", "_n": "int64", "_signs": "string"}.get(part, "float64")
        for part in ("_low", "_high", "_p", "_q", *_POOLED[3:])
    },
    **{
        f"equal_architecture{part}": {"_cells": "int64", "_n": "int64", "_signs": "string"}.get(part, "float64")
        for part in ("_spearman", *_POOLED)
    },
    **dict.fromkeys(("sign_error_mean", "sign_error_p90", "sign_error_max"), "float64"),
    "sign_error_environments": "int64",
    **dict.fromkeys(("equal_budget_regret_at_1", "random_regret_at_1", "precision_at_3"), "float64"),
    **dict.fromkeys(("random_precision_at_3", "target_reliability", "score_reliability", "noise_ceiling"), "float64"),
    "seeds": "float64",
}
"""The columns of `correlate`, those of the contract first, and their dtypes."""


@dataclass(frozen=True)
class Judgement:
    """All that the records say of the metrics, as tables; an empty one has its columns."""

    correlations: pd.DataFrame
    """One row per metric, target and group, as of `correlate`."""
    cells: pd.DataFrame
    """The correlation inside each cell of equal size; see `tables.cells`."""
    granulated: pd.DataFrame
    """Granulated Kendall by choice; see pairs.py."""
    sign_errors: pd.DataFrame
    """Robust sign error by environment; see pairs.py."""
    differences: pd.DataFrame
    """The manifold metric minus every other; see differences.py."""
    transfer: pd.DataFrame
    """Leave one data set, model or operator out; see `tables.transfer`."""
    regret_curve: pd.DataFrame
    """Regret against cost; see `tables.regret_curve`."""
    reliability: pd.DataFrame
    """How well each target repeats; see reliability.py."""
    exclusions: pd.DataFrame
    """What does not count, and why."""
    words: list[str]
    """What limits everything that these runs can say."""

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables by name."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "words"}


def judge(frame: pd.DataFrame) -> Judgement:
    """Judge every metric by the records: see the fields of `Judgement`. Uses no random numbers.

    Args:
        frame: as of `load_records`. Columns that it lacks count as null. Without a `configuration`, equal (dataset,
            model, expansion, axis, factor, budget, training, parameters) make one; without a `base_configuration`,
            equal (model, training) make one base model of a data set.
    """
    table = prepared(frame)
    panels = [Panel(table, target) for target in TARGETS]
    granulated, sign_errors = tables.by_pairs(panels)
    reliabilities = tables.reliability(panels)
    return Judgement(
        correlations=_correlations(table, panels),
        cells=tables.cells(panels),
        granulated=granulated,
        sign_errors=sign_errors,
        differences=tables.differences(panels),
        transfer=tables.transfer(panels),
        regret_curve=tables.regret_curve(panels),
        reliability=reliabilities,
        exclusions=tables.exclusions(frame, table),
        words=words.of_sweep(table, reliabilities, frame.attrs.get("unfinished", {})),
    )


def correlate(frame: pd.DataFrame) -> pd.DataFrame:
    """Judge every metric: one row per (metric, target, group) that has a record; the contract's columns come first.

    Groups are `all`, `key=value` for each data set, model, axis, budget, training and (of several) store, and
    `arm=expansion`, which is all without the controls. The derived controls `lookup_table` and `second_training` (see
    controls.py) have a row wherever a metric has. A metric whose runs all failed has a row with n = 0. What is
    undefined is null: no statistic is made up from too little, and `words` says what is too little.

    * n, n_configurations: the runs that count, and the configurations that they make; n_base_models: of how many.
    * spearman, ci_low, ci_high, p_value, interval: see correlation.py; q_value is p_value after Benjamini and Hochberg
      (1995) over the metrics of one target and group, controls left out.
    * kendall: tau-b, see correlation.py; granulated_kendall, sign_error_*: see pairs.py.
    * partial_spearman: given log parameters and base accuracy, see correlation.py.
    * equal_budget_*, equal_architecture_*: see pooled.py; inside equal data set, base model and budget, or data set,
      base model, parameters, depth and operations. Networks of one budget still differ by rounding, within the
      expansion's `tolerance` (1 % unless set). To rank those differences would be to read noise as size, so the metric
      `parameters` is constant by definition here and gets null. Where an expansion is given a factor, its record's
      budget is the ratio that it came to. *_signs: in how many cells the sign is the expected one (or the commoner).
    * regret_at_1 and its relatives: see selection.py, in units of the target, averaged over base models with at least 2
      configurations. An expected sign of 0 or null counts as +1.
    * seconds: mean metric_seconds of a run. cost_fraction: summed metric_seconds over summed train_seconds.
    * expected_sign: the sign expected of this correlation, the metric's times the target's `DIRECTIONS`. sign_agrees:
      whether spearman has it; null where one of the two is 0 or null, false for rho = 0.
    * target_reliability, score_reliability, noise_ceiling: see reliability.py.

    Rows are sorted: group `all` first, then groups by name; targets in their order; larger |spearman| first.

    Args:
        frame: see `judge`.
    """
    table = prepared(frame)
    return _correlations(table, [Panel(table, target) for target in TARGETS])


def compare(frame: pd.DataFrame, metric: str, rival: str, target: str = "gain") -> Difference:
    """Whether one metric ranks the target better than another, on the configurations where both have a score.

    See differences.py. An expected sign of 0 or null counts as +1.
    """
    panel = Panel(prepared(frame), target)
    return paired(panel.sample(metric), panel.sample(rival))["spearman"]


def ranked(correlations: pd.DataFrame, target: str = "gain", group: str = "all") -> pd.DataFrame:
    """The rows of one target and group, best agreement (expected sign * spearman) first.

    A metric of which theory says nothing (sign 0 or null) stands where agreement is 0; undefined correlations are last.
    """
    rows = correlations[(correlations["target"] == target) & (correlations["group"] == group)]
    agreement = rows["expected_sign"].fillna(0).astype(float) * rows["spearman"]
    order = pd.DataFrame({"agreement": -agreement, "metric": rows["metric"]}).sort_values(["agreement", "metric"])
    return rows.loc[order.index].reset_index(drop=True)


def decided(row: Any) -> bool:
    """Whether a row of `correlate` has a direction: its interval excludes 0, or it is a perfect order of `ENOUGH`."""
    if pd.isna(row["ci_low"]):
        return bool(abs(row["spearman"]) == 1 and row["n_configurations"] >= ENOUGH)
    return bool(row["ci_low"] > 0 or row["ci_high"] < 0)


def _correlations(table: pd.DataFrame, panels: Sequence[Panel]) -> pd.DataFrame:
    rows = []
    for place, panel in enumerate(panels):
        for group, members, inside in _groups(table, panel.units):
            for metric in [*sorted(members.dropna().unique()), *(DERIVED if len(members) else ())]:
                judged = panel.judged(metric, inside)
                row = {"metric": metric, "target": panel.target, "group": group, **judged, "place": place}
                rows.append({**row, "words": words.of_row(row)})
    found = pd.DataFrame(rows, columns=[*COLUMNS, "place"])
    result = found[list(COLUMNS)].astype(COLUMNS)
    for p_value, q_value in (("p_value", "q_value"), ("equal_budget_p", "equal_budget_q")):
        tested = result[p_value].where(result["role"].isin(["", "baseline"]))
        if len(result):
            result[q_value] = tested.groupby([result["target"], result["group"]]).transform(tables.adjusted)
    order = result.assign(rest=result["group"] != "all", place=found["place"], size=-result["spearman"].abs())
    order = order.sort_values(["rest", "group", "place", "size", "metric"], kind="stable")
    return result.loc[order.index].reset_index(drop=True)


def _groups(table: pd.DataFrame, units: pd.DataFrame) -> Iterator[tuple[str, pd.Series, Flags]]:
    """Label, metrics of the records, and configurations (as flags) of each group."""
    yield "all", table["metric"], (units["number"] >= 0).to_numpy(dtype=bool)
    keyed: list[tuple[str, list[Any]]] = [(key, sorted(table[key].dropna().unique())) for key in KEYS]
    stores = sorted(table["store"].dropna().unique())
    if len(stores) > 1:
        keyed.append(("store", stores))
    for key, values in [*keyed, ("arm", ["expansion"])]:
        for value in values:
            label = f"{key}={value:g}" if key == "budget" else f"{key}={value}"
            members = (table[key] == value).fillna(False).to_numpy(dtype=bool)
            if key == "store":  # a configuration may be in several
                inside = units["number"].isin(table.loc[members, "number"]).to_numpy(dtype=bool)
            else:
                inside = (units[key] == value).fillna(False).to_numpy(dtype=bool)
            yield label, table.loc[members, "metric"], inside
