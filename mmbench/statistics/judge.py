"""How well each metric ranks expansions by what they gain: the tables of all statistics.

All statistics are over configurations (everything in a run but its metric and its seed), not over runs: score and
target are averaged over seeds first, and ranks are taken over configurations. Only runs that are done and have a finite
score and a finite target count; `Judgement.exclusions` lists the others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmbench.statistics.configurations import KEYS, at_start, prepare
from mmbench.statistics.controls import DERIVED
from mmbench.statistics.correlation import false_discovery_rate
from mmbench.statistics.differences import difference_table
from mmbench.statistics.exclusions import exclusion_table
from mmbench.statistics.moments import moments_table
from mmbench.statistics.one_choice import FIXED
from mmbench.statistics.regret import regret_at, split
from mmbench.statistics.reliability import ceiling
from mmbench.statistics.remarks import on_row, on_sweep
from mmbench.statistics.sample import CELLS as KINDS
from mmbench.statistics.sample import WITHIN_BASE, Samples
from mmbench.statistics.strategies import compare
from mmbench.statistics.summary import COLUMNS, Summaries
from mmbench.statistics.target import TARGETS
from mmbench.statistics.transfer import transfer_table
from mmbench.statistics.validation import validation_table

Flags = NDArray[np.bool_]

EXPANSIONS = "arm=expansion"
"""The group of all expansions, without the controls: what can be chosen."""

CELLS = {
    **dict.fromkeys(("metric", "target", "kind", "dataset", "model", "training", "base"), "string"),
    **dict.fromkeys(("budget", "parameters"), "float64"),
    **{"n": "int64", "spearman": "float64", "expected_sign": "Int64", "sign_agrees": "boolean", "label": "string"},
}
GRANULATED = {"metric": "string", "target": "string", "axis": "string", "psi": "float64", "strata": "int64"}
SIGN_ERRORS = {
    **dict.fromkeys(("metric", "target", "axis", "environment"), "string"),
    **{"error": "float64", "pairs": "int64", "effective_pairs": "float64"},
}
REGRET_CURVE = {
    **{"metric": "string", "target": "string", "k": "int64"},
    **dict.fromkeys(("cost", "regret", "random_regret"), "float64"),
    "base_models": "int64",
}
RELIABILITY = {
    **{"target": "string", "seeds": "float64", "configurations": "int64"},
    **dict.fromkeys(("single", "mean", "ceiling"), "float64"),
    "remark": "string",
}


@dataclass(frozen=True)
class Judgement:
    """All that the records say about the metrics, as tables; an empty table keeps its columns."""

    correlations: pd.DataFrame
    """One row per metric, target and group, as of `correlate`."""
    strategies: pd.DataFrame
    """The expansion strategies ranked by gain, as of `compare`."""
    cells: pd.DataFrame
    """The correlation inside each cell, by `kind`: within_base, equal_budget or equal_architecture."""
    granulated: pd.DataFrame
    """Granulated Kendall by choice (`axis`); see one_choice.py."""
    sign_errors: pd.DataFrame
    """Robust sign error by environment; see one_choice.py."""
    differences: pd.DataFrame
    """The manifold metric minus every other; see differences.py."""
    transfer: pd.DataFrame
    """One data set, model or operator left out; see transfer.py."""
    regret_curve: pd.DataFrame
    """Regret against cost; see regret.py."""
    reliability: pd.DataFrame
    """How reproducible each target is; see reliability.py."""
    moments: pd.DataFrame
    """The correlations along the training; see moments.py."""
    validation: pd.DataFrame
    """How far choosing on validation flatters; see validation.py."""
    exclusions: pd.DataFrame
    """What is excluded, and why."""
    remarks: list[str]
    """The limits of these runs."""

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables by name."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "remarks"}


def judge(frame: pd.DataFrame) -> Judgement:
    """Judge every metric by the records. Uses no random numbers.

    Args:
        frame: as of `load_records`. Missing columns count as null. Without a `configuration`, equal (dataset,
            model, expansion, axis, factor, budget, training, parameters) make one; without a `base_configuration`,
            equal (model, training) make one base model of a data set.

    Returns:
        The tables; see the fields of `Judgement`.
    """
    everything = prepare(frame)
    runs = at_start(everything)
    samples = [Samples(runs, target) for target in TARGETS]
    granulated, sign_errors = _one_choice_tables(samples)
    reliabilities = _reliability_table(samples)
    return Judgement(
        correlations=_correlation_table(runs, samples),
        strategies=compare(frame),
        cells=_cell_table(samples),
        granulated=granulated,
        sign_errors=sign_errors,
        differences=difference_table(samples),
        transfer=transfer_table(samples),
        regret_curve=_regret_curve(samples),
        reliability=reliabilities,
        moments=moments_table(everything),
        validation=validation_table(runs),
        exclusions=exclusion_table(frame, everything),
        remarks=on_sweep(runs, reliabilities, frame.attrs.get("unfinished", {})),
    )


def correlate(frame: pd.DataFrame) -> pd.DataFrame:
    """Judge every metric: one row per (metric, target, group) that has a record; the contract's columns come first.

    A metric that was taken at several moments of the training has rows for the first one alone, which is right after
    the expansion, if it was measured then; see moments.py for all of them.

    Groups are `all`, `key=value` for each data set, model, axis, budget, training and (if several) store, and
    `arm=expansion`, which is all without the controls. The derived controls `lookup_table` and `second_training` (see
    controls.py) have a row wherever a metric has one. A metric whose runs all failed has a row with n = 0. What is
    undefined is null; `remark` says where there is too little for a conclusion.

    * n, n_configurations, n_base_models: the runs that count, their configurations and their base models.
    * spearman, ci_low, ci_high, p_value, interval: see correlation.py; q_value is p_value after Benjamini and Hochberg
      (1995) over the metrics of one target and group, controls left out.
    * kendall: tau-b, see correlation.py; granulated_kendall, sign_error_*: see one_choice.py.
    * partial_spearman: given log parameters and base accuracy, see correlation.py.
    * within_base_*: among the expansions of one base model (controls left out), the mean over base models; see
      equal_size.py. This is what someone who has a base model can use.
    * equal_budget_*, equal_architecture_*: see equal_size.py; inside equal data set, base model and budget, or data
      set, base model, parameters, depth and operations. Networks of one budget still differ by rounding, within the
      expansion's `tolerance` (1 % unless set). Ranks of these differences would be noise, so the metric `parameters`
      is constant by definition here and gets null. If an expansion is given a factor, the budget in its record is the
      resulting ratio. *_signs: in how many cells the sign is the expected one (or, where none is expected, the more
      frequent one).
    * regret_at_1 and similar columns: see regret.py, in the target's own unit, averaged over base models with at least
      2 configurations. An expected sign of 0 or null counts as +1.
    * seconds: mean metric_seconds of a run, and of the training up to the moment of the score. cost_fraction: their
      sum over summed train_seconds.
    * expected_sign: the sign expected of this correlation, the metric's times the target's `DIRECTIONS`. sign_agrees:
      whether spearman has it; null where one of the two is 0 or null, false for rho = 0.
    * target_reliability, score_reliability, noise_ceiling: see reliability.py.

    Args:
        frame: see `judge`.

    Returns:
        The rows, sorted: group `all` first, then groups by name; targets in their order; larger |spearman| first.
    """
    runs = at_start(prepare(frame))
    return _correlation_table(runs, [Samples(runs, target) for target in TARGETS])


def ranked(correlations: pd.DataFrame, target: str = "gain", group: str | None = None) -> pd.DataFrame:
    """The rows of one target and group, best agreement (expected sign * within_base_spearman) first.

    A metric for which theory expects no sign (0 or null) is placed as if its agreement were 0.

    Args:
        correlations: as of `correlate`.
        target: one of `TARGETS`.
        group: `all` or `key=value`; None: the expansions, without the controls, or all if there are no expansions.

    Returns:
        The rows; undefined correlations are last.
    """
    rows = correlations[correlations["target"] == target]
    if group is None:
        group = EXPANSIONS if (rows.loc[rows["group"] == EXPANSIONS, "n_configurations"] > 0).any() else "all"
    rows = rows[rows["group"] == group]
    agreement = rows["expected_sign"].fillna(0).astype(float) * rows["within_base_spearman"]
    order = pd.DataFrame({"agreement": -agreement, "metric": rows["metric"]}).sort_values(["agreement", "metric"])
    return rows.loc[order.index].reset_index(drop=True)


def decided(row: Any) -> bool:
    """Whether a row of `correlate` has a direction inside base models: the interval excludes 0 (and p < 0.05)."""
    return bool(row["within_base_low"] > 0 or row["within_base_high"] < 0)


def _correlation_table(runs: pd.DataFrame, all_samples: Sequence[Samples]) -> pd.DataFrame:
    rows = []
    for place, samples in enumerate(all_samples):
        summaries = Summaries(samples)
        for group, members, inside in _groups(runs, samples.configurations):
            for metric in [*sorted(members.dropna().unique()), *(DERIVED if len(members) else ())]:
                row = {"metric": metric, "target": samples.target, "group": group, **summaries(metric, inside)}
                rows.append({**row, "remark": on_row(row), "place": place})
    everything = pd.DataFrame(rows, columns=[*COLUMNS, "place"])
    table = everything[list(COLUMNS)].astype(COLUMNS)
    tests = (("p_value", "q_value"), *((f"{kind}_p", f"{kind}_q") for kind in (WITHIN_BASE, "equal_budget")))
    for p_value, q_value in tests:
        tested = table[p_value].where(table["role"].isin(["", "baseline"]))
        if len(table):
            table[q_value] = tested.groupby([table["target"], table["group"]]).transform(false_discovery_rate)
    order = table.assign(rest=table["group"] != "all", place=everything["place"], size=-table["spearman"].abs())
    order = order.sort_values(["rest", "group", "place", "size", "metric"], kind="stable")
    return table.loc[order.index].reset_index(drop=True)


def _groups(runs: pd.DataFrame, configurations: pd.DataFrame) -> Iterator[tuple[str, pd.Series, Flags]]:
    """Label, metrics of the records, and configurations (as flags) of each group."""
    yield "all", runs["metric"], (configurations["number"] >= 0).to_numpy(dtype=bool)
    keyed: list[tuple[str, list[Any]]] = [(key, sorted(runs[key].dropna().unique())) for key in KEYS]
    stores = sorted(runs["store"].dropna().unique())
    if len(stores) > 1:
        keyed.append(("store", stores))
    for key, values in [*keyed, ("arm", ["expansion"])]:
        for value in values:
            label = f"{key}={value:g}" if key == "budget" else f"{key}={value}"
            members = (runs[key] == value).fillna(False).to_numpy(dtype=bool)
            if key == "store":  # a configuration may be in several
                inside = configurations["number"].isin(runs.loc[members, "number"]).to_numpy(dtype=bool)
            else:
                inside = (configurations[key] == value).fillna(False).to_numpy(dtype=bool)
            yield label, runs.loc[members, "metric"], inside


def _cell_table(all_samples: Sequence[Samples]) -> pd.DataFrame:
    """The correlation inside each cell of equal size, which shows whether the sign holds from cell to cell."""
    parts = []
    for samples in all_samples:
        for kind, column in KINDS.items():
            known = samples.configurations[["dataset", "model", "training", "base", "budget"]]
            known = known.assign(cell=samples.configurations[column])
            known["parameters"] = samples.configurations.groupby(column)["parameters"].transform("mean")
            rows: dict[str, list[Any]] = {name: [] for name in ("cell", "metric", "n", "spearman", "sign")}
            for metric in samples.metrics:
                sample = samples.sample(metric)
                cells = sample.cells(kind)
                for name, values in (("cell", cells.code), ("n", cells.n), ("spearman", cells.rho)):
                    rows[name] += values.tolist()
                rows["metric"] += [metric] * len(cells.n)
                rows["sign"] += [sample.expected_sign] * len(cells.n)
            part = pd.DataFrame(rows).assign(target=samples.target, kind=kind)
            parts.append(part.merge(known.drop_duplicates("cell"), on="cell"))
    table = pd.concat(parts, ignore_index=True)
    table["expected_sign"] = table["sign"].astype("Float64").astype("Int64")
    agrees = (table["spearman"] * table["sign"] > 0).astype("boolean")
    table["sign_agrees"] = agrees.mask(~table["sign"].isin([-1, 1]))
    size = table["budget"].map(lambda budget: f"{budget:g}x").astype("string")
    parameters = table["parameters"].map(lambda n: f"{n:,.0f} parameters").astype("string")
    size = size.where(table["kind"] == "equal_budget", parameters)
    size = (", " + size).where(table["kind"] != WITHIN_BASE, "")
    table["label"] = table["dataset"].astype("string") + ", " + table["model"].astype("string") + size
    return table[list(CELLS)].astype(CELLS)


def _one_choice_tables(all_samples: Sequence[Samples]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Granulated Kendall by choice, and sign errors by environment."""
    psi, errors = [], []
    for samples in all_samples:
        for metric in samples.metrics:
            pairs = samples.compare_pairs(samples.sample(metric))
            key = {"metric": metric, "target": samples.target}
            for choice in [choice for choice in FIXED if choice in pairs.psi]:
                mean, strata = pairs.psi[choice]
                psi.append({**key, "axis": choice, "psi": mean, "strata": strata})
            for name, error, n, effective in pairs.environments:
                choice, _, environment = name.partition(": ")
                row = {**key, "axis": choice, "environment": environment, "error": error}
                errors.append({**row, "pairs": n, "effective_pairs": effective})
    return _table(psi, GRANULATED), _table(errors, SIGN_ERRORS)


def _regret_curve(all_samples: Sequence[Samples]) -> pd.DataFrame:
    """Regret against cost, for the expansions of one base model (controls left out), averaged over base models."""
    rows = []
    for samples in all_samples:
        expansions = (samples.configurations["arm"] == "expansion").to_numpy(dtype=bool)
        for metric in samples.metrics:
            sample = samples.sample(metric, expansions)
            paid = sample.priced_train.sum()
            # A second training trains every candidate: its price is paid before any choice.
            price = sample.priced_metric.sum() / paid if paid > 0 else math.nan
            candidates = list(split(sample.base_number, sample.preference, sample.goal))
            most = max((len(goal) for _, goal in candidates), default=0)
            for k in [k for k in (1, 2, 3, 5, 8, 13, 21, 34, 55, 89) if k <= most]:
                chosen = [(preference, goal, min(k, len(goal))) for preference, goal in candidates]
                rows.append(
                    {
                        **{"metric": metric, "target": samples.target, "k": k, "base_models": len(chosen)},
                        # Scoring all candidates and training the first k, as a fraction of training all of them.
                        "cost": price + float(np.mean([few / len(goal) for _, goal, few in chosen])),
                        "regret": float(np.mean([regret_at(*choice) for choice in chosen])),
                        "random_regret": float(np.mean([regret_at(0 * goal, goal, few) for _, goal, few in chosen])),
                    }
                )
    return _table(rows, REGRET_CURVE)


def _reliability_table(all_samples: Sequence[Samples]) -> pd.DataFrame:
    """How well each target repeats from seed to seed, over all configurations."""
    rows = []
    for samples in all_samples:
        target = samples.target_reliability(samples.trainings["number"].unique())
        remark = "No run has this target." if not target.configurations else ""
        if target.configurations and not target.seeds > 1:
            remark = "One seed: unknown."
        rows.append({"target": samples.target, **vars(target), "ceiling": ceiling(target.mean), "remark": remark})
    return _table(rows, RELIABILITY)


def _table(rows: Sequence[dict[str, Any]], columns: dict[str, str]) -> pd.DataFrame:
    """Rows as a frame of exactly these columns and dtypes."""
    return pd.DataFrame(rows, columns=list(columns)).astype(columns)
