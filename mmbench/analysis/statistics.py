"""How well each metric ranks expansions by what they bring.

The unit of all statistics is the configuration (everything in a run but its metric and its seed), not the run: score
and target are averaged over seeds first, and ranks are taken over configurations. Only runs that are done and have a
finite score and a finite target count.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

TARGETS = ("gain", "final_accuracy")
KEYS = ("dataset", "model", "axis", "budget", "training")
CONTROLS = ("none", "scratch", "scratch_matched")
"""The expansions that others are compared with; left out of the group `arm=expansion`."""
SIZE = "parameters"
BASELINES = (
    *(SIZE, "flops", "depth"),
    *("base_accuracy", "training_loss", "validation_loss", "loss_after_k_steps"),
)
"""The metrics that need no theory; a metric that does not beat them is not worth its cost."""

ENOUGH = 10
"""Configurations below which no conclusion is drawn."""

COLUMNS = {
    "metric": "string",
    "target": "string",
    "group": "string",
    "n": "int64",
    "n_configurations": "int64",
    "spearman": "float64",
    "ci_low": "float64",
    "ci_high": "float64",
    "p_value": "float64",
    "kendall": "float64",
    "partial_spearman": "float64",
    "equal_budget_spearman": "float64",
    "regret_at_1": "float64",
    "seconds": "float64",
    "cost_fraction": "float64",
    "expected_sign": "Int64",
    "sign_agrees": "boolean",
}

_TEXT = [
    *("run_id", "status", "metric", "configuration", "base_configuration", "expansion", "arm"),
    *("dataset", "model", "axis", "training"),
]
_NUMBERS = [
    *("seed", "factor", "budget", "expected_sign", "score", "metric_seconds", "train_seconds"),
    *("parameters", "base_accuracy", *TARGETS),
]
_CONFIGURATION = ("dataset", "model", "expansion", "axis", "factor", "budget", "training", "parameters")


def correlate(frame: pd.DataFrame) -> pd.DataFrame:
    """Judge every metric: one row per (metric, target, group) that has a record, with the columns of the contract.

    Targets are `gain` and `final_accuracy`. Groups are `all`, `key=value` for each dataset, model, axis, budget and
    training, and `arm=expansion`, which is all without the controls. A metric whose runs all
    failed has a row with n = 0. What is undefined is null: no statistic is made up from too little.

    * n, n_configurations: the runs that count, and the configurations that they make.
    * spearman: rank correlation of score and target over configurations, ties by average rank; null for fewer than 3
      configurations or a constant side. p_value is scipy's, from Student's t (an approximation; null for fewer than 4),
      kendall is tau-b.
    * ci_low, ci_high: see `interval`.
    * partial_spearman: see `partial_spearman`; the controls are log parameters and base accuracy.
    * equal_budget_spearman: Spearman's rho inside each group of one data set, base model and budget that has at least 3
      configurations and no constant side, averaged with the number of configurations as weight; null if there is no
      such group. Networks of one budget still differ by rounding, within the expansion's `tolerance` (2 % unless set).
      To rank those differences would be to read noise as size, so the metric `parameters` is constant by definition
      here and gets null. Where an expansion is given a factor, its record's budget is the ratio that it came to.
    * regret_at_1: for each base model on its data set, the best target among its configurations minus the target of the
      one with the best sign * score, averaged over base models with at least 2 configurations. Fraction of accuracy.
      Equal best scores count with their mean target; an expected sign of 0 or null counts as +1.
    * seconds: mean metric_seconds of a run. cost_fraction: summed metric_seconds over summed train_seconds.
    * sign_agrees: whether spearman has the expected sign; null where one of the two is 0 or null, false for rho = 0.

    Rows are sorted: group `all` first, then groups by name; gain before final_accuracy; larger |spearman| first.

    Args:
        frame: as of `load_records`. Columns that it lacks count as null. Without a `configuration`, equal (dataset,
            model, expansion, axis, factor, budget, training, parameters) make one; without a `base_configuration`,
            equal (model, training) make one base model of a data set.
    """
    table = _prepared(frame)
    signs = {metric: _sign(rows["expected_sign"]) for metric, rows in table.groupby("metric")}
    rows = []
    for target in TARGETS:
        units = _averaged(_counted(table, target), target)
        known: dict[Any, dict[str, Any]] = {}  # groups often have the same members: all, the one data set, ...
        for group, members, candidates in _groups(table, units):
            for metric in sorted(members["metric"].dropna().unique()):
                unit = candidates[candidates["metric"] == metric]
                key = metric, unit.index.to_numpy().tobytes()
                if key not in known:
                    known[key] = _judged(unit, metric, signs[metric])
                rows.append({"metric": metric, "target": target, "group": group, **known[key]})
    result = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    result["rest"] = result["group"] != "all"
    result["place"] = result["target"].map({target: place for place, target in enumerate(TARGETS)})
    result["size"] = -result["spearman"].abs()
    result = result.sort_values(["rest", "group", "place", "size", "metric"], kind="stable", ignore_index=True)
    return result[list(COLUMNS)]


def interval(rho: float, n: int) -> tuple[float, float]:
    """The 95 % interval of Spearman's rho over n configurations: tanh(atanh rho +- 1.96 sqrt((1 + rho^2/2) / (n - 3))).

    NaN for n < 4 and for |rho| = 1, where the formula has no value. Rough below n = 10 and above |rho| = 0.8.
    Source: Bonett and Wright, Psychometrika 65 (2000).
    """
    if n < 4 or not abs(rho) < 1:
        return math.nan, math.nan
    half = 1.96 * math.sqrt((1 + rho**2 / 2) / (n - 3))
    return math.tanh(math.atanh(rho) - half), math.tanh(math.atanh(rho) + half)


@dataclass(frozen=True)
class Comparison:
    """Two metrics on the configurations that both have; rho is turned so that positive means as theory expects."""

    n_configurations: int
    rho: float
    rival_rho: float
    p_value: float


def compare(frame: pd.DataFrame, metric: str, rival: str, target: str = "gain") -> Comparison:
    """Whether one metric ranks the target better than another, on the configurations where both have a score.

    p_value: see `difference`. An expected sign of 0 or null counts as +1.
    """
    table = _prepared(frame)
    units = _averaged(_counted(table, target), target)
    left, right = (units[units["metric"] == name] for name in (metric, rival))
    both = left.merge(right, on=["configuration", "base", *KEYS, "expansion", "arm"], suffixes=("", "_rival"))
    signs = [-1.0 if _sign(table["expected_sign"][table["metric"] == name]) < 0 else 1.0 for name in (metric, rival)]
    score, other = signs[0] * both["score"].to_numpy(), signs[1] * both["score_rival"].to_numpy()
    goal = both["target"].to_numpy()
    rho, rival_rho, shared = _spearman(score, goal)[0], _spearman(other, goal)[0], _spearman(score, other)[0]
    return Comparison(len(both), rho, rival_rho, difference(rho, rival_rho, shared, len(both)))


def difference(r1: float, r2: float, r12: float, n: int) -> float:
    """The two-sided p-value of r1 - r2, two correlations with one target, r12 being that of the two scores.

    z = (atanh r1 - atanh r2) sqrt((n - 3) / (2 (1 - r12) h)), with h = (1 - f m) / (1 - m), m = (r1^2 + r2^2) / 2 and
    f = min(1, (1 - r12) / (2 (1 - m))). NaN where it is undefined: n < 4, a perfect order, equal scores.
    Source: Meng, Rosenthal and Rubin, Psychological Bulletin 111 (1992); made for Pearson's r, here used on ranks.
    """
    if n < 4 or not max(abs(r1), abs(r2)) < 1 or not r12 < 1:
        return math.nan
    m = (r1**2 + r2**2) / 2
    f = min(1.0, (1 - r12) / (2 * (1 - m)))
    z = (math.atanh(r1) - math.atanh(r2)) * math.sqrt((n - 3) * (1 - m) / (2 * (1 - r12) * (1 - f * m)))
    return float(2 * stats.norm.sf(abs(z)))


def partial_spearman(score: Array, target: Array, controls: Sequence[Array]) -> float:
    """Spearman's rho of score and target given the controls: Pearson's r of what is left of their ranks.

    Ranks of score and target are regressed on those of the controls; the residuals are correlated. Configurations that
    lack a control are left out, controls that are constant are dropped. NaN for fewer configurations than controls + 3,
    and where the controls leave nothing over.
    """
    known = np.isfinite(np.vstack([score, target, *controls])).all(axis=0)
    left = [stats.rankdata(values[known]) for values in (score, target)]
    kept = [values[known] for values in controls if known.any() and np.ptp(values[known]) > 0]
    if known.sum() < len(kept) + 3:
        return math.nan
    design = np.column_stack([np.ones(known.sum()), *map(stats.rankdata, kept)])
    residuals = []
    for ranks in left:
        residual = ranks - design @ np.linalg.lstsq(design, ranks)[0]
        if np.linalg.norm(residual) <= 1e-9 * np.linalg.norm(ranks):
            return math.nan
        residuals.append(residual / np.linalg.norm(residual))
    return float(np.clip(residuals[0] @ residuals[1], -1, 1))


def runs(frame: pd.DataFrame, target: str) -> pd.DataFrame:
    """The runs that count for a target: done, with a finite score and target; missing columns are there as null."""
    return _counted(_prepared(frame), target)


def configurations(frame: pd.DataFrame, target: str) -> pd.DataFrame:
    """The units of statistics: one row per metric and configuration, averaged over seeds; the target as `target`."""
    return _averaged(runs(frame, target), target)


def _counted(table: pd.DataFrame, target: str) -> pd.DataFrame:
    done = (table["status"] == "done").fillna(False) & table["metric"].notna()
    return table[done & np.isfinite(table["score"]) & np.isfinite(table[target])]


def _averaged(table: pd.DataFrame, target: str) -> pd.DataFrame:
    priced = table["metric_seconds"].notna() & table["train_seconds"].notna()
    table = table.assign(
        target=table[target],
        priced_metric=table["metric_seconds"].where(priced),
        priced_train=table["train_seconds"].where(priced),
    )
    groups = table.groupby(["metric", "configuration", "base", *KEYS, "expansion", "arm"], dropna=False)
    units = groups.agg(
        n=("score", "size"),
        score=("score", "mean"),
        target=("target", "mean"),
        parameters=("parameters", "mean"),
        base_accuracy=("base_accuracy", "mean"),
        seconds=("metric_seconds", "sum"),
        timed=("metric_seconds", "count"),
        priced_metric=("priced_metric", "sum"),
        priced_train=("priced_train", "sum"),
    ).reset_index()
    # Values that are equal but for floating-point rounding are ties: 0.9 - 0.8 and 0.8 - 0.7 are one gain.
    for column in ("target", "base_accuracy"):
        units[column] = units[column].round(12)
    units["score"] = [float(f"{score:.12g}") for score in units["score"]]
    # Cells are compared within: numbers, because pandas is slow at grouping many small tables. -1 is no cell.
    units["base_cell"] = units.groupby(["dataset", "base"], dropna=False).ngroup()
    units["budget_cell"] = units.groupby(["dataset", "base", "budget"], dropna=True).ngroup().fillna(-1).astype(int)
    return units


def ranked(correlations: pd.DataFrame, target: str = "gain", group: str = "all") -> pd.DataFrame:
    """The rows of one target and group, best agreement (expected sign * spearman) first.

    A metric of which theory says nothing (sign 0 or null) stands where agreement is 0; undefined correlations are last.
    """
    rows = correlations[(correlations["target"] == target) & (correlations["group"] == group)]
    agreement = rows["expected_sign"].fillna(0).astype(float) * rows["spearman"]
    order = pd.DataFrame({"agreement": -agreement, "metric": rows["metric"]}).sort_values(["agreement", "metric"])
    return rows.loc[order.index].reset_index(drop=True)


def mixed(frame: pd.DataFrame, target: str = "gain") -> list[str]:
    """The metrics with several scores for one configuration and seed, which `configurations` averages.

    Runs that differ in a metric's options share its name, so such an average may be of different things.
    """
    table = runs(frame, target)
    repeated = table["seed"].notna() & table.duplicated(["metric", "configuration", "base", *KEYS, "seed"])
    return sorted(table.loc[repeated, "metric"].unique())


def decided(row: Any) -> bool:
    """Whether a row of `correlate` has a direction: its interval excludes 0, or it is a perfect order of `ENOUGH`."""
    if pd.isna(row["ci_low"]):
        return bool(abs(row["spearman"]) == 1 and row["n_configurations"] >= ENOUGH)
    return bool(row["ci_low"] > 0 or row["ci_high"] < 0)


def role(metric: str, expected_sign: Any) -> str:
    """What a metric is there for: `negative control`, `baseline`, or `` for a metric under test."""
    if metric == "random" or (not pd.isna(expected_sign) and expected_sign == 0):
        return "negative control"
    return "baseline" if metric in BASELINES else ""


def _prepared(frame: pd.DataFrame) -> pd.DataFrame:
    """The columns that statistics read, typed, with `arm`, `base` and `configuration` filled in where they lack."""
    n = len(frame)
    columns: dict[str, Any] = {}
    for name in _TEXT:
        columns[name] = frame[name].astype("string").array if name in frame else pd.array([None] * n, dtype="string")
    for name in _NUMBERS:
        values = pd.to_numeric(frame[name], errors="coerce") if name in frame else pd.Series(np.nan, range(n))
        columns[name] = values.to_numpy(dtype=float, na_value=np.nan)
    table = pd.DataFrame(columns, index=range(n))
    arm = table["expansion"].isin(CONTROLS).map({True: "control", False: "expansion"}).astype("string")
    table["arm"] = table["arm"].fillna(arm)
    table["base"] = _filled(table, "base_configuration", ("model", "training"))
    table["configuration"] = _filled(table, "configuration", _CONFIGURATION)
    # Sums of floats depend on their order: sorted, the same records give the same means in whatever order they come.
    return table.sort_values(["metric", "configuration", "seed", "run_id"], kind="stable", ignore_index=True)


def _filled(table: pd.DataFrame, column: str, parts: Sequence[str]) -> pd.Series:
    """The column; where it is null, the parts that it stands for."""
    lacking = table[column].isna()
    if not lacking.any():
        return table[column]
    text = pd.Series("", index=table.index, dtype="string")
    for name in parts:
        text = text + "|" + table[name].astype("string").fillna("")
    return table[column].fillna(text)


def _groups(table: pd.DataFrame, units: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """Label, records and configurations of each group."""
    yield "all", table, units
    for key, values in [*((key, sorted(table[key].dropna().unique())) for key in KEYS), ("arm", ["expansion"])]:
        for value in values:
            label = f"{key}={value:g}" if key == "budget" else f"{key}={value}"
            yield label, table[table[key] == value], units[units[key] == value]


def _sign(values: pd.Series) -> float:
    """A metric's expected sign; NaN if its records have none, or contradict each other."""
    found = values.dropna().unique()
    return float(found[0]) if len(found) == 1 else math.nan


def _judged(units: pd.DataFrame, metric: str, sign: float) -> dict[str, Any]:
    """All statistics of one metric over its configurations."""
    score, target = units["score"].to_numpy(), units["target"].to_numpy()
    rho, p_value = _spearman(score, target)
    low, high = interval(rho, len(units))
    with np.errstate(divide="ignore", invalid="ignore"):
        size = np.log(units["parameters"].to_numpy())
    defined = not math.isnan(rho)
    partial = partial_spearman(score, target, [size, units["base_accuracy"].to_numpy()]) if defined else math.nan
    paid = units["priced_train"].sum()
    return {
        "n": units["n"].sum(),
        "n_configurations": len(units),
        "spearman": rho,
        "ci_low": low,
        "ci_high": high,
        "p_value": p_value,
        "kendall": float(stats.kendalltau(score, target, variant="b").statistic) if defined else math.nan,
        "partial_spearman": partial,
        "equal_budget_spearman": math.nan if metric == SIZE else _equal_budget(units, score, target),
        "regret_at_1": _regret(units, -score if sign < 0 else score, target),
        "seconds": units["seconds"].sum() / units["timed"].sum() if units["timed"].sum() else math.nan,
        "cost_fraction": units["priced_metric"].sum() / paid if paid > 0 else math.nan,
        "expected_sign": None if math.isnan(sign) else sign,
        "sign_agrees": rho * sign > 0 if defined and sign in (-1, 1) else None,
    }


def _spearman(score: Array, target: Array) -> tuple[float, float]:
    """Spearman's rho and its p-value."""
    if len(score) < 3 or np.ptp(score) == 0 or np.ptp(target) == 0:
        return math.nan, math.nan
    result = stats.spearmanr(score, target)
    rho = float(result.statistic)
    if abs(rho) > 1 - 1e-12:  # rounding must not make an interval out of a perfect order
        rho = math.copysign(1, rho)
    return rho, float(result.pvalue) if len(score) >= 4 else math.nan


def _cells(units: pd.DataFrame, column: str, score: Array, target: Array) -> Iterator[tuple[Array, Array]]:
    """Score and target of the configurations of each cell."""
    codes = units[column].to_numpy()
    for code in np.unique(codes[codes >= 0]):
        yield score[codes == code], target[codes == code]


def _equal_budget(units: pd.DataFrame, score: Array, target: Array) -> float:
    cells = [(_spearman(*cell)[0], len(cell[0])) for cell in _cells(units, "budget_cell", score, target)]
    known = [(rho, n) for rho, n in cells if not math.isnan(rho)]
    return sum(rho * n for rho, n in known) / sum(n for _, n in known) if known else math.nan


def _regret(units: pd.DataFrame, merit: Array, target: Array) -> float:
    cells = [cell for cell in _cells(units, "base_cell", merit, target) if len(cell[0]) >= 2]
    return float(np.mean([goal.max() - goal[best == best.max()].mean() for best, goal in cells])) if cells else math.nan
