"""The points of all scatters as data: for the page's script as one JSON object, and for its pictures without script."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mmbench.report.figures.scatter import axis_scale, summary, theory
from mmbench.report.figures.style import Looks
from mmbench.statistics.configurations import configurations, runs
from mmbench.statistics.controls import role
from mmbench.statistics.judge import ranked

MOST_RUNS = 30_000
"""Runs that a page holds one by one; beyond, only configurations, so that the page stays small."""
GLYPHS = {
    "circle": "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "square": "M-3.5-3.5h7v7h-7z",
    "triangle": "M0-4.6l4.4 7.8h-8.8z",
    "diamond": "M0-4.9L4.9 0L0 4.9L-4.9 0z",
    "down": "M0 4.6l4.4-7.8h-8.8z",
    "plus": "M-1.5-4.4h3v2.9h2.9v3h-2.9v2.9h-3v-2.9h-2.9v-3h2.9z",
}
"""Outlines of the marks around 0, in the units of the page's pictures."""


@dataclass(frozen=True)
class Points:
    """All that the scatters show. Numbers refer to places in the lists of names."""

    names: dict[str, list[str]]
    """Data sets, models, operators, axes."""
    looks: list[dict[str, Any]]
    """Colour, edge and hollowness of each operator."""
    shapes: list[str]
    """The mark of each axis."""
    configurations: list[list[Any]]
    """Data set, model, operator, axis (-1: none), budget, parameters, name."""
    metrics: list[dict[str, Any]]
    """Name, role, theory, summary, scale and the points: [configuration, score, gain, number of runs, runs]."""
    with_runs: bool

    def json(self) -> str:
        """The JSON text, safe inside a script element: no `<`, no line separator that JavaScript would see."""
        data = {
            "names": self.names, "looks": self.looks, "shapes": self.shapes, "glyphs": GLYPHS,
            "configurations": self.configurations, "metrics": self.metrics,
        }  # fmt: skip
        text = json.dumps(data, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
        return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def collect(frame: pd.DataFrame, correlations: pd.DataFrame, looks: Looks) -> Points:
    """The points of every metric that has any, best agreement with theory first."""
    units, single = configurations(frame, "gain"), runs(frame, "gain")
    with_runs = len(single) <= MOST_RUNS
    names = {key: _known(units[column]) for key, column in
             (("datasets", "dataset"), ("models", "model"), ("operators", "expansion"))}  # fmt: skip
    names["axes"] = [axis for axis in _known(units["axis"]) if axis != "none"]
    keys = ["configuration", "base"]
    distinct = units.drop_duplicates(keys).sort_values([*_SORTED, *keys], kind="stable")
    places = {key: place for place, key in enumerate(distinct[keys].itertuples(index=False, name=None))}
    by_metric = dict(list(single.groupby("metric"))) if with_runs else {}
    metrics = []
    for row in ranked(correlations).to_dict("records"):
        chosen = units[units["metric"] == row["metric"]]
        if chosen.empty:
            continue
        members = _runs_of(by_metric.get(row["metric"]))
        scale, linear = axis_scale(chosen["score"].to_numpy(float))
        metrics.append({
            "name": str(row["metric"]), "role": role(row["metric"], row["expected_sign"]), "scale": scale,
            "linear": linear, "theory": theory(row["expected_sign"]), "summary": summary(row),
            "points": [
                [places[unit.configuration, unit.base], _short(unit.score), _short(unit.target), int(unit.n),
                 members.get((unit.configuration, unit.base), [])]
                for unit in chosen.itertuples()
            ],
        })  # fmt: skip
    shown = [looks.of(name) for name in names["operators"]]
    return Points(
        names=names,
        looks=[{"colour": look.colour, "edge": look.edge, "hollow": look.hollow} for look in shown],
        shapes=[looks.of(None, axis).shape for axis in names["axes"]],
        configurations=[_described(unit, names) for unit in distinct.to_dict("records")],
        metrics=metrics,
        with_runs=with_runs,
    )


_SORTED = ["dataset", "model", "expansion", "axis", "budget"]


def _known(values: pd.Series) -> list[str]:
    return sorted({str(value) for value in values.dropna()})


def _described(unit: dict[Any, Any], names: dict[str, list[str]]) -> list[Any]:
    place = [
        names[key].index(str(unit[column])) if str(unit[column]) in names[key] else -1
        for key, column in (("datasets", "dataset"), ("models", "model"), ("operators", "expansion"), ("axes", "axis"))
    ]
    budget = None if pd.isna(unit["budget"]) else _short(unit["budget"])
    parameters = None if pd.isna(unit["parameters"]) else round(unit["parameters"])
    return [*place, budget, parameters, str(unit["configuration"])[:24]]


def _runs_of(single: pd.DataFrame | None) -> dict[tuple[str, str], list[list[Any]]]:
    """[seed, first letters of the run's id, score, gain] of each configuration's runs.

    Of an only run score and gain are left out: they are those of its configuration.
    """
    found: dict[tuple[str, str], list[list[Any]]] = {}
    if single is None:
        return found
    columns = [single[name] for name in ("configuration", "base", "seed", "score", "gain", "run_id")]
    for configuration, base, seed, score, gain, run_id in zip(*columns, strict=True):
        name = "" if pd.isna(run_id) else str(run_id)[:10]
        entry = [None if pd.isna(seed) else int(seed), name, _short(score), _short(gain)]
        found.setdefault((configuration, base), []).append(entry)
    return {key: [entry[:2] for entry in entries] if len(entries) == 1 else entries for key, entries in found.items()}


def _short(value: float) -> float | int:
    """Six significant digits; a whole number without a point."""
    rounded = float(f"{value:.6g}")
    return int(rounded) if rounded == int(rounded) and abs(rounded) < 1e15 else rounded


def positions(scores: np.ndarray[Any, Any], scale: str, linear: float) -> np.ndarray[Any, Any]:
    """Scores on their axis, before it is stretched to the picture. The page's script does the same."""
    if scale == "log":
        return np.log10(scores)
    if scale == "symlog":
        return np.sign(scores) * np.log10(1 + np.abs(scores) / linear)
    return scores
