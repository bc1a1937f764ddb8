"""Which member of the manifold family predicts the gain: every definition on the clouds that the records hold.

A record of the metric `manifold` holds its cloud, not its score alone, so all sizes, gates, units and nulls can be
computed from it afterwards (`mmbench.landscape.sizes`), and smaller clouds are parts of it. Here a cell is the set-up
of a base model (data set, model, training); inside a cell definitions are compared over configurations, and at equal
budget.

The best of a thousand definitions may be the best by luck. The definition is therefore chosen on half of the cells, by
the mean of its equal-budget correlation over cells, and confirmed on the other half; the halves are a chequerboard over
data sets, models and lengths of training. Permutations of the gain inside budgets show what the best of so many
definitions would reach by luck alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.studies.family_rules import increments, luck, mean_interval, together
from mmbench.landscape.sizes import GATED, LENGTHS, SIZES, STARS, Cloud, Gate, Normaliser, Rule, size_of
from mmbench.statistics.configurations import average_seeds, prepare, scored
from mmbench.statistics.correlation import partial_interval, spearman_interval
from mmbench.statistics.equal_size import correlate_cells, mean_over_cells
from mmbench.statistics.regret import random_regret, regret_at_1
from mmbench.text import metric_name

Array = np.ndarray[Any, Any]

THRESHOLDS = {
    "nats": Rule((0.003, 0.01, 0.03, 0.1, 0.3, 1.0)),
    "of the loss": Rule((0.01, 0.03, 0.1, 0.3, 1.0), relative=True),
}
"""The grids of eps."""
UNITS: tuple[Normaliser, ...] = ("none", "norm", "sqrt_p", "filter")
GATES: tuple[Gate, ...] = ("none", "pair", "component")
FEWEST = 8
"""Configurations below which a cell is left out."""


@dataclass(frozen=True)
class Definition:
    """One way of computing a size from a cloud."""

    size: str
    rule: Rule
    eps: str
    """Which grid; empty where the size counts no connections."""
    minus: str
    """`none`, `cloud` or `symmetry`."""

    @property
    def label(self) -> str:
        """As the metric's options name it."""
        gate = f" by {self.rule.gate}" if self.size == "distance" else ""
        eps = f", eps {self.eps}" if self.eps else ""
        unit = f", unit {self.rule.normaliser}" if self.size in LENGTHS else ""
        return self.size + gate + eps + unit + (f", minus {self.minus}" if self.minus != "none" else "")

    def read(self, cloud: Cloud, null: Cloud | None) -> float:
        """The score; NaN where it has none."""
        value = size_of(self.size, cloud, self.rule)
        if self.minus == "none":
            return value
        other = cloud.scattered() if self.minus == "cloud" else null
        return math.nan if other is None else value - size_of(self.size, other, self.rule)


def definitions() -> Iterator[Definition]:
    """All of the family that can be computed from one cloud."""
    for size in SIZES:
        gates = GATES if size == "distance" else ("none",)
        for gate, unit in product(gates, UNITS if size in LENGTHS else UNITS[:1]):
            gated = size in GATED and (size != "distance" or gate != "none")
            for eps in THRESHOLDS if gated else [""]:
                grid = THRESHOLDS[eps or "nats"]
                for minus in ("none", "symmetry") if size in ("diameter", *STARS) else ("none", "symmetry", "cloud"):
                    yield Definition(size, Rule(grid.thresholds, grid.relative, gate, unit), eps, minus)


@dataclass(frozen=True)
class Family:
    """What the clouds of a frame say."""

    cells: pd.DataFrame
    """One row per definition (or rival metric) and cell."""
    summary: pd.DataFrame
    """One row per definition (or rival): its cells in each half, and together."""
    luck: float
    """The 95 % quantile of the best mean over the first half that permuted gains give; NaN without definitions."""
    increments: pd.DataFrame
    """Leave-one-cell-out prediction from what is known anyway, and with the chosen definitions added."""


def family(frame: pd.DataFrame) -> Family | None:
    """Compare every definition on every cell.

    Returns:
        None where no record holds a cloud. The columns of `cells`: `definition` (what is computed), `sampler` (from
        which cloud; empty for rivals), `cell`, `half` (`chosen on` or `confirmed on`), n, spearman with ci_low and
        ci_high, equal_budget and equal_architecture (means over cells, weights n), partial (given log parameters),
        regret and random_regret (at 1, of test accuracy, mean over budgets), cost (metric seconds over training
        seconds). A definition that is the same for all configurations of a budget has an equal_budget of 0.
    """
    table = scored(prepare(frame), "gain")
    clouds = _clouds(frame)
    table = table[table["arm"] == "expansion"]
    if not clouds or table.empty:
        return None
    scores = pd.concat(
        [_read(frame, clouds), _rivals(table, frame.set_index("run_id")["definition"])], ignore_index=True
    )
    scores = scores.merge(_cells_of(frame), on="run_id", how="inner")
    scores = scores[scores["run_id"].isin(_whole_seeds(scores, table))]
    configurations = _configurations(scores, table)
    joint = pd.concat([configurations, together(configurations)], ignore_index=True)
    groups = joint.groupby(["sampler", "definition", "cell"], sort=True)
    rows = [_row([*map(str, key)], part) for key, part in groups]
    cells = pd.DataFrame([row for row in rows if row["n"] >= FEWEST])
    if cells.empty:
        return None
    cells["half"] = np.where(cells["cell"].isin(_first_half(scores)), "chosen on", "confirmed on")
    summary = _summary(cells)
    return Family(cells, summary, luck(configurations, cells), increments(configurations, summary))


def _clouds(frame: pd.DataFrame) -> dict[str, tuple[Cloud, Cloud | None]]:
    """By run: the cloud of the record, and that of its symmetry null."""
    if "manifold_point_losses" not in frame:
        return {}
    found = {}
    rows = frame[(frame["status"] == "done") & frame["manifold_point_losses"].notna()]
    names = [name for name in rows if str(name).startswith("manifold_")]
    for row in rows[["run_id", "parameters", *names]].to_dict("records"):
        listed = {str(name).removeprefix("manifold_"): _value(value) for name, value in row.items()}
        null = {name.removeprefix("null_"): value for name, value in listed.items() if name.startswith("null_")}
        size = int(row["parameters"])
        try:
            cloud = Cloud.of(listed, size)
            found[row["run_id"]] = cloud, Cloud.of(null, size) if null.get("point_losses") else None
        except (KeyError, TypeError, ValueError):  # of another version
            continue
    return found


def _value(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return None if pd.isna(value) else value


def _read(frame: pd.DataFrame, clouds: dict[str, tuple[Cloud, Cloud | None]]) -> pd.DataFrame:
    """All definitions of all clouds and of their first two points: run, sampler, definition, score, seconds."""
    known = frame.set_index("run_id")
    lines = known["manifold_line"].map(_value)
    looks = {str(run): len(line) for run, line in lines.items() if isinstance(line, list)}
    wanted, rows = list(definitions()), []
    for run, (cloud, null) in clouds.items():
        sampler = str(known.at[run, "definition"]).split(" | ")[0]
        count, full = len(cloud), _seconds(known.loc[run])
        for part in sorted({2, count}):
            few, less = (cloud, null) if part == count else (_part(cloud, part), null and _part(null, part))
            label = sampler.replace(f"K={count}", f"K={part}")
            costs = {
                kind: float(_shares(cloud, part, looks[run], *kind) @ full) for kind in product((False, True), repeat=2)
            }
            rows += [
                (run, label, one.label, one.read(few, less), costs[one.size in STARS, one.minus == "symmetry"])
                for one in wanted
            ]
    return pd.DataFrame(rows, columns=["run_id", "sampler", "definition", "score", "seconds"])


def _shares(cloud: Cloud, part: int, alphas: int, stars: bool, null: bool) -> Array:
    """Shares of the seconds of points, survey and symmetry null that a definition on the first `part` points needs.

    A survey evaluates the loss at the ends, on the lines between them, and, for stars, along the rays until they end.
    The seconds of the null are not split, and include those of its rays.

    Returns:
        Three shares, of points, survey and null.
    """

    def looks(count: int, rays: bool) -> float:
        found = count + count * (count - 1) / 2 * (alphas - 2)
        if cloud.reaches is not None and rays:
            found += 1 + 5 * count + float(np.abs(np.log2(cloud.reaches[:count])).sum())
        return found

    share = part / len(cloud)
    return np.array([share, looks(part, stars) / looks(len(cloud), True), share * null])


def _part(cloud: Cloud, points: int) -> Cloud:
    return cloud.only(range(points))


def _seconds(row: Any) -> Array:
    """Seconds of the points (with the trunk before them), of the survey, and of the symmetry null beside them."""
    survey, null = float(row["manifold_survey_seconds"]), row.get("manifold_null_seconds", 0.0)
    return np.array([
        max(float(row["metric_seconds"]) - survey, 0.0), survey, 0.0 if pd.isna(null) else float(null)
    ])  # fmt: skip


def _rivals(table: pd.DataFrame, definitions: pd.Series) -> pd.DataFrame:
    """The other metrics, with their sign turned so that a larger score should mean a larger gain.

    Options that depend on the set-up (steps that are a tenth of the training) are one metric over all cells.

    Returns:
        One row per run.
    """
    others = table[~table["metric"].str.startswith("manifold")]
    turned = others["score"] * np.where(others["expected_sign"] < 0, -1, 1)
    names = others["metric"].map(metric_name)
    kinds = others.groupby([names, "base"])["metric"].transform("nunique")
    names = names.where(kinds == 1, others["run_id"].map(definitions).map(_chosen).fillna(others["metric"]))
    found = {"run_id": others["run_id"], "sampler": "", "definition": names, "score": turned}
    return pd.DataFrame({**found, "seconds": others["metric_seconds"]})


def _chosen(definition: Any) -> str | None:
    """A metric and its options without those that are the training's."""
    if not isinstance(definition, str):
        return None
    name, _, options = definition.removesuffix(")").partition("(")
    kept = [option for option in options.split(", ") if option and not option.startswith(("steps=", "training="))]
    return f"{name}({', '.join(kept)})" if kept else name


def _cells_of(frame: pd.DataFrame) -> pd.DataFrame:
    """The cell of every run by its name, and what it is made of."""
    steps = frame.groupby("base_configuration")["train_steps"].transform("min")
    made = frame[["run_id", "dataset", "model"]].assign(steps=steps)
    made["cell"] = made["dataset"] + " " + made["model"] + " " + made["steps"].astype("string") + " steps"
    return made.dropna(subset=["cell"])


def _whole_seeds(scores: pd.DataFrame, table: pd.DataFrame) -> set[str]:
    """The runs of seeds that a cell has in full: configurations with and without a seed would differ by chance."""
    cells = scores.drop_duplicates("run_id")[["run_id", "cell"]].merge(table[["run_id", "number", "seed"]], on="run_id")
    counts = cells.groupby(["cell", "seed"])["number"].nunique().rename("count").reset_index()
    counts["most"] = counts.groupby("cell")["count"].transform("max")
    whole = counts.loc[counts["count"] == counts["most"], ["cell", "seed"]]
    return set(cells.merge(whole, on=["cell", "seed"])["run_id"])


def _first_half(scores: pd.DataFrame) -> set[str]:
    """Every other cell of the chequerboard of data sets, models and lengths of training."""
    cells = scores.drop_duplicates("cell").sort_values("cell")
    places = sum(cells[key].rank(method="dense").astype(int) for key in ("dataset", "model"))
    length = cells.groupby(["dataset", "model"])["steps"].rank(method="dense").astype(int)
    return set(cells.loc[(places + length) % 2 == 0, "cell"])


def _configurations(scores: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """One row per sampler, definition and configuration: score and gain averaged over the seeds of both."""
    runs = table.drop_duplicates("run_id").set_index("run_id")
    joined = scores[np.isfinite(scores["score"])].join(
        runs[["number", "seed", "gain", "parameters", "train_seconds"]], on="run_id", how="inner"
    )
    unit = ["sampler", "definition", "cell", "number"]
    per_seed = joined.groupby([*unit, "seed"], dropna=False).mean(numeric_only=True).reset_index()
    configurations = (
        per_seed.groupby(unit)
        .agg(score=("score", "mean"), gain=("gain", "mean"), parameters=("parameters", "mean"),
             seconds=("seconds", "mean"), train_seconds=("train_seconds", "mean"))
        .reset_index()
    )  # fmt: skip
    known = average_seeds(table, "gain").drop_duplicates("number")
    return configurations.merge(
        known[["number", "budget_cell", "architecture_cell", "base_number", "depth"]], on="number"
    )


def _row(key: Sequence[Any], part: pd.DataFrame) -> dict[str, Any]:
    score = np.array([float(f"{value:.12g}") for value in part["score"]])
    gain = part["gain"].round(12).to_numpy(dtype=float)
    base = part["base_number"].to_numpy()
    size = np.log(part["parameters"].to_numpy(dtype=float))
    whole = spearman_interval(score, gain, base)
    place = part["budget_cell"].to_numpy()
    budget = mean_over_cells(correlate_cells(place, base, score, gain))
    architecture = mean_over_cells(correlate_cells(part["architecture_cell"].to_numpy(), base, score, gain))
    return {
        "sampler": key[0], "definition": key[1], "cell": key[2], "n": len(part),
        "spearman": whole.rho, "ci_low": whole.low, "ci_high": whole.high,
        "equal_budget": 0.0 if math.isnan(budget.rho) else budget.rho,
        "equal_architecture": architecture.rho, "n_equal_architecture": architecture.n,
        "partial": partial_interval(score, gain, [size], base).rho,
        "regret": regret_at_1(place, score, gain), "random_regret": random_regret(place, gain),
        "cost": part["seconds"].sum() / part["train_seconds"].sum(),
    }  # fmt: skip


def _summary(cells: pd.DataFrame) -> pd.DataFrame:
    """Means over cells, with Student's interval over the cells, for each half and for all."""
    rows = []
    for (sampler, definition), part in cells.groupby(["sampler", "definition"], sort=True):
        row: dict[str, Any] = {"sampler": sampler, "definition": definition, "cost": part["cost"].median()}
        halves = {
            "all": part,
            "chosen": part[part["half"] == "chosen on"],
            "confirmed": part[part["half"] != "chosen on"],
        }
        for name, half in halves.items():
            values = half["equal_budget"]
            row |= {f"{name}_cells": len(values), f"{name}_positive": int((values > 0).sum())}
            row |= dict(zip((name, f"{name}_low", f"{name}_high"), mean_interval(values), strict=True))
        for column in ("spearman", "partial", "equal_architecture", "regret", "random_regret"):
            row[column] = part[column].mean()
        row["better_than_random"] = int((part["regret"] < part["random_regret"]).sum())
        rows.append(row)
    return pd.DataFrame(rows).sort_values("chosen", ascending=False, ignore_index=True)
