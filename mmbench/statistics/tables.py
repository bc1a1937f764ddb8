"""The tables beside correlations.csv, each made from the panels of all targets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from mmbench.statistics import words
from mmbench.statistics.configurations import TARGETS
from mmbench.statistics.controls import SECOND, stem
from mmbench.statistics.correlation import spearman, spearman_interval
from mmbench.statistics.differences import paired, row_of
from mmbench.statistics.one_choice import FIXED
from mmbench.statistics.panel import POOLED, Panel
from mmbench.statistics.regret import cells as parted
from mmbench.statistics.regret import regret_at
from mmbench.statistics.reliability import ceiling

SUBJECT = "manifold"
"""The metric that the paper claims for, whose difference to every other one is reported."""

CELLS = {
    **dict.fromkeys(("metric", "target", "kind", "dataset", "model", "training", "base"), "string"),
    **dict.fromkeys(("budget", "parameters"), "float64"),
    **{"n": "int64", "spearman": "float64", "expected_sign": "Int64", "sign_agrees": "boolean", "label": "string"},
}
GRANULATED = {"metric": "string", "target": "string", "axis": "string", "psi": "float64", "cells": "int64"}
SIGN_ERRORS = {
    **dict.fromkeys(("metric", "target", "axis", "environment"), "string"),
    **{"error": "float64", "pairs": "int64", "effective_pairs": "float64"},
}
DIFFERENCES = {
    **dict.fromkeys(("metric", "rival", "target", "group", "statistic"), "string"),
    "n_configurations": "int64",
    **dict.fromkeys(("rho", "rival_rho", "difference", "ci_low", "ci_high", "p_value", "q_value"), "float64"),
    "words": "string",
}
TRANSFER = {
    **dict.fromkeys(("metric", "target", "by", "held_out"), "string"),
    **{"n_train": "int64", "n": "int64", "learned_sign": "Int64"},
    **dict.fromkeys(("spearman", "ci_low", "ci_high", "transferred"), "float64"),
    "words": "string",
}
CURVE = {
    **{"metric": "string", "target": "string", "k": "int64"},
    **dict.fromkeys(("cost", "regret", "random_regret"), "float64"),
    "base_models": "int64",
}
RELIABILITY = {
    **{"target": "string", "seeds": "float64", "configurations": "int64"},
    **dict.fromkeys(("single", "mean", "ceiling"), "float64"),
    "words": "string",
}
EXCLUSIONS = {
    **dict.fromkeys(("where", "metric", "target", "reason"), "string"),
    **{"n": "int64", "example": "string"},
}


def table(rows: Sequence[dict[str, Any]], columns: dict[str, str]) -> pd.DataFrame:
    """Rows as a frame of exactly these columns and dtypes."""
    return pd.DataFrame(rows, columns=list(columns)).astype(columns)


def adjusted(p_values: pd.Series) -> pd.Series:
    """p-values after Benjamini and Hochberg (1995): the false discovery rate at which each would be a discovery."""
    known = p_values.notna()
    q_values = pd.Series(np.nan, index=p_values.index, dtype="float64")
    if known.any():
        q_values[known] = stats.false_discovery_control(p_values[known].to_numpy(dtype=float), method="bh")
    return q_values


def cells(panels: Sequence[Panel]) -> pd.DataFrame:
    """The correlation inside each cell of equal size: does the sign hold from cell to cell?"""
    parts = []
    for panel in panels:
        for kind, column in POOLED.items():
            units = panel.units[["dataset", "model", "training", "base", "budget"]].assign(cell=panel.units[column])
            units["parameters"] = panel.units.groupby(column)["parameters"].transform("mean")
            rows: dict[str, list[Any]] = {name: [] for name in ("cell", "metric", "n", "spearman", "sign")}
            for metric in panel.rows:
                sample = panel.sample(metric)
                found = sample.cells(kind)
                for name, values in (("cell", found.code), ("n", found.n), ("spearman", found.rho)):
                    rows[name] += values.tolist()
                rows["metric"] += [metric] * len(found.n)
                rows["sign"] += [sample.sign] * len(found.n)
            part = pd.DataFrame(rows).assign(target=panel.target, kind=kind)
            parts.append(part.merge(units.drop_duplicates("cell"), on="cell"))
    result = pd.concat(parts, ignore_index=True)
    result["expected_sign"] = result["sign"].astype("Float64").astype("Int64")
    agrees = (result["spearman"] * result["sign"] > 0).astype("boolean")
    result["sign_agrees"] = agrees.mask(~result["sign"].isin([-1, 1]))
    size = result["budget"].map(lambda budget: f"{budget:g}x").astype("string")
    parameters = result["parameters"].map(lambda n: f"{n:,.0f} parameters").astype("string")
    size = size.where(result["kind"] == "equal_budget", parameters)
    result["label"] = result["dataset"].astype("string") + ", " + result["model"].astype("string") + ", " + size
    return result[list(CELLS)].astype(CELLS)


def by_pairs(panels: Sequence[Panel]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Granulated Kendall by choice, and sign errors by environment."""
    psi, errors = [], []
    for panel in panels:
        for metric in panel.rows:
            judged, named = panel.by_pairs(panel.sample(metric)), {"metric": metric, "target": panel.target}
            psi += [
                {**named, "axis": axis, "psi": judged.psi[axis][0], "cells": judged.psi[axis][1]}
                for axis in FIXED
                if axis in judged.psi
            ]
            for name, error, pairs, effective in judged.environments:
                axis, _, environment = name.partition(": ")
                errors.append(
                    {
                        **named,
                        "axis": axis,
                        "environment": environment,
                        "error": error,
                        "pairs": pairs,
                        "effective_pairs": effective,
                    }
                )
    return table(psi, GRANULATED), table(errors, SIGN_ERRORS)


def differences(panels: Sequence[Panel]) -> pd.DataFrame:
    """The manifold metric minus every other one; q_value over the rivals of one question.

    A second training is no rival: it is a part of the mean over seeds that the metrics are judged by.
    """
    rows = []
    for panel in panels:
        groups = {"all": None, "arm=expansion": (panel.units["arm"] == "expansion").to_numpy(dtype=bool)}
        for metric in [name for name in panel.rows if stem(name) == SUBJECT]:
            for group, inside in groups.items():
                one = panel.sample(metric, inside)
                for rival in panel.rows:
                    if rival in (metric, SECOND):
                        continue
                    for statistic, found in paired(one, panel.sample(rival, inside)).items():
                        n = found.n_configurations
                        few = (
                            ""
                            if n >= words.ENOUGH
                            else f"Too few to say: {words.counted(n, 'configuration')} in common."
                        )
                        named = {"metric": metric, "rival": rival, "target": panel.target, "group": group}
                        rows.append({**named, "statistic": statistic, **row_of(found), "words": few})
    result = table(rows, DIFFERENCES)
    if len(result):
        question = ["metric", "target", "group", "statistic"]
        result["q_value"] = result.groupby(question, group_keys=False)["p_value"].transform(adjusted)
    return result


def transfer(panels: Sequence[Panel]) -> pd.DataFrame:
    """The sign of a correlation learned on all groups but one, tried on that one. Controls are left out.

    A monotone rule of one score has nothing to fit but its sign; `transferred` is the correlation of the rule's
    prediction with the target in the held-out group.
    """
    rows = []
    for panel in panels:
        expansions = (panel.units["arm"] == "expansion").to_numpy(dtype=bool)
        for by in ("dataset", "model", "expansion"):
            values, names = (
                panel.units[by].to_numpy(dtype=object),
                sorted(panel.units.loc[expansions, by].dropna().unique()),
            )
            if len(names) < 2:
                continue
            for name in names:
                held = values == name
                for metric in panel.rows:
                    test, train = panel.sample(metric, expansions & held), panel.sample(metric, expansions & ~held)
                    learned = spearman(train.score, train.target)
                    found = spearman_interval(test.score, test.target, test.base_cell)
                    sign = None if math.isnan(learned) else np.sign(learned)
                    rows.append(
                        {
                            **{"metric": metric, "target": panel.target, "by": by, "held_out": name},
                            **{"n_train": len(train), "n": len(test), "learned_sign": sign, "spearman": found.rho},
                            **{"ci_low": found.low, "ci_high": found.high},
                            "transferred": math.nan if sign is None else sign * found.rho,
                            "words": _few(len(test), len(train)),
                        }
                    )
    return table(rows, TRANSFER)


def _few(held_out: int, left: int) -> str:
    if min(held_out, left) >= words.ENOUGH:
        return ""
    return f"Too few to say: {words.counted(held_out, 'configuration')} held out, {left} left."


def regret_curve(panels: Sequence[Panel]) -> pd.DataFrame:
    """Regret against cost, for the expansions of one base model (controls left out), averaged over base models.

    cost: scoring all candidates and training the first k, as a fraction of training all of them.
    """
    rows = []
    for panel in panels:
        expansions = (panel.units["arm"] == "expansion").to_numpy(dtype=bool)
        for metric in panel.rows:
            s = panel.sample(metric, expansions)
            price = s.priced_metric.sum() / s.priced_train.sum() if s.priced_train.sum() > 0 else math.nan
            # A second training is itself the training of every candidate: its price is there before the first choice.
            found = list(parted(s.base_cell, s.merit, s.goal))
            most = max((len(goal) for _, goal in found), default=0)
            for k in [k for k in (1, 2, 3, 5, 8, 13, 21, 34, 55, 89) if k <= most]:
                kept = [(merit, goal, min(k, len(goal))) for merit, goal in found]
                rows.append(
                    {
                        **{"metric": metric, "target": panel.target, "k": k, "base_models": len(kept)},
                        "cost": price + float(np.mean([few / len(goal) for _, goal, few in kept])),
                        "regret": float(np.mean([regret_at(merit, goal, few) for merit, goal, few in kept])),
                        "random_regret": float(np.mean([regret_at(0 * goal, goal, few) for _, goal, few in kept])),
                    }
                )
    return table(rows, CURVE)


def reliability(panels: Sequence[Panel]) -> pd.DataFrame:
    """How well each target repeats from seed to seed, over all configurations."""
    rows = []
    for panel in panels:
        found = panel.target_reliability(panel.trainings["number"].unique())
        said = "" if found.seeds > 1 else "One seed: unknown." if found.configurations else "No run has this target."
        rows.append(
            {
                **{"target": panel.target, "seeds": found.seeds, "configurations": found.configurations},
                **{"single": found.single, "mean": found.mean, "ceiling": ceiling(found.mean), "words": said},
            }
        )
    return table(rows, RELIABILITY)


def exclusions(frame: pd.DataFrame, prepared: pd.DataFrame) -> pd.DataFrame:
    """What does not count, where it fell out, why, and how often."""
    rows: list[dict[str, Any]] = []
    attrs = frame.attrs
    damaged, versions = (
        attrs.get("damaged", []),
        pd.DataFrame(attrs.get("other_versions", []), columns=["path", "version"]),
    )
    if damaged:
        rows.append({"where": "file", "reason": "damaged", "n": len(damaged), "example": damaged[0]})
    for version, files in versions.groupby("version", dropna=False):
        reason = f"of version {version} of the store"
        rows.append({"where": "file", "reason": reason, "n": len(files), "example": files["path"].iloc[0]})
    if attrs.get("filtered"):
        rows.append({"where": "file", "reason": f"left out by where: {attrs.get('where')}", "n": attrs["filtered"]})
    again = frame["run_id"].notna() & frame["run_id"].duplicated() if "run_id" in frame else pd.Series(dtype=bool)
    if again.any():
        rows.append(
            {
                "where": "run",
                "reason": "the same run is in another store",
                "n": int(again.sum()),
                "example": frame["run_id"][again].iloc[0],
            }
        )
    lost = prepared[~prepared["done"]]
    reasons = lost["status"].fillna("no status") + ": " + lost["error"].fillna("no reason given")
    rows += _counted(lost.assign(reason=reasons), "run")
    unscored = prepared[prepared["done"] & ~np.isfinite(prepared["score"])]
    infinite = np.isinf(unscored["score"])
    rows += _counted(unscored.assign(reason=np.where(infinite, "score is infinite", "no score")), "score")
    scored = prepared[prepared["done"] & np.isfinite(prepared["score"])]
    for target in TARGETS:
        without = scored[~np.isfinite(scored[target])]
        rows += [{**row, "target": target, "metric": None} for row in _targetless(without, target)]
    return table(rows, EXCLUSIONS)


def _counted(runs: pd.DataFrame, where: str) -> list[dict[str, Any]]:
    found = runs.groupby(["metric", "reason"], dropna=False)["run_id"].agg(["size", "first"]).reset_index()
    return [
        {"where": where, "metric": metric, "reason": reason, "n": n, "example": example}
        for metric, reason, n, example in found.itertuples(index=False)
    ]


def _targetless(runs: pd.DataFrame, target: str) -> list[dict[str, Any]]:
    reason = pd.Series(f"no {target.replace('_', ' ')}", index=runs.index)
    if target == "gain_over_scratch":
        matched = (runs["expansion"] == "scratch_matched").fillna(False)
        reason = reason.mask(~matched, "no scratch_matched of its data set, base model, budget and seed")
        reason = reason.mask(matched, "is scratch_matched itself")
    return _counted(runs.assign(reason=reason, metric="any"), "target")
