"""Each metric's score against the gain: an interactive scatter, and a figure per metric for pages without script."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pandas as pd
from markupsafe import Markup

from mmbench.report.figures.scatter import axis_scale, summary, theory
from mmbench.report.figures.style import Looks
from mmbench.report.sections.base import Results, Section
from mmbench.statistics.configurations import configurations, runs
from mmbench.text import file_stem

MOST_RUNS = 30_000
"""With more runs, a page shows only configurations, so that it stays small."""


class Scatter(Section):
    """The viewer of report.js with its data, and the figures."""

    title = "Score against gain"
    order = 30
    script = "report.js"
    template = """
<p class="note">Each point is a configuration, averaged over its seeds. Colour is the operator, shape the axis along
which it grows; controls are hollow and grey.
{% if not with_runs %}There are over {{ "{:,}".format(most_runs) }} runs: only configurations are shown here, and
records.csv holds the runs.{% endif %}</p>
<div id="viewer" hidden>
<ul id="legend" class="legend" aria-label="Operators and axes"></ul>
<form><label>metric <select id="metric"></select></label>
<label>data set <select id="dataset"></select></label>
<label>model <select id="model"></select></label>
<label><input type="checkbox" id="all-runs"> all runs</label></form>
<p id="summary" class="note" aria-live="polite"></p>
<div class="stage">
<svg id="plot" role="group" viewBox="0 0 420 320" aria-label="Score against gain"></svg>
<div id="readout" role="status">Point at or tap a configuration, or step through them with the arrow keys, to see its
runs here. Click an operator above to hide it.</div>
</div></div>
{% if figures %}
<details id="figures" open><summary>A figure for each metric</summary>
<div class="figures">
{% for figure in figures %}<figure>{{ figure | png }}</figure>
{% endfor %}
</div></details>
{% endif %}
<script type="application/json" id="points">{{ points }}</script>
"""

    def content(self, results: Results) -> dict[str, Any] | None:
        """The figures and the points, once a run has a score and a gain."""
        points = collect(results.frame, results.rows, Looks.of_runs(results.frame))
        if not points.metrics:
            return None
        stems = [f"scatter_{file_stem(metric['name'])}" for metric in points.metrics]
        return {
            "figures": [results.drawings[stem] for stem in stems if stem in results.drawings],
            "points": Markup(points.json()),
            "with_runs": points.with_runs,
            "most_runs": MOST_RUNS,
        }


@dataclass(frozen=True)
class Points:
    """All that the viewer shows. Names are given as indices into the lists of names."""

    names: dict[str, list[str]]
    """Data sets, models, operators, axes."""
    looks: list[dict[str, Any]]
    """Colour, edge and hollowness of each operator."""
    shapes: list[str]
    """The marker of each axis."""
    configurations: list[list[Any]]
    """Data set, model, operator, axis (-1: none), budget, parameters, name."""
    metrics: list[dict[str, Any]]
    """Name, role, theory, summary, scale and the points: [configuration, score, gain, number of runs, runs]."""
    with_runs: bool

    def json(self) -> str:
        """The JSON text, safe inside a script element: no `<`, no line separator that JavaScript would see."""
        data = {
            "names": self.names,
            "looks": self.looks,
            "shapes": self.shapes,
            "configurations": self.configurations,
            "metrics": self.metrics,
        }
        text = json.dumps(data, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
        return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def collect(frame: pd.DataFrame, rows: pd.DataFrame, looks: Looks) -> Points:
    """The points of every metric that has any.

    Args:
        frame: the runs, as of `load_records`.
        rows: the correlations with the gain over all runs, in the order in which the metrics are offered.
        looks: colours and shapes.

    Returns:
        The points; without the single runs where there are more than `MOST_RUNS`.
    """
    averages, counted = configurations(frame, "gain"), runs(frame, "gain")
    with_runs = len(counted) <= MOST_RUNS
    columns = {"datasets": "dataset", "models": "model", "operators": "expansion"}
    names = {key: _known(averages[column]) for key, column in columns.items()}
    names["axes"] = [axis for axis in _known(averages["axis"]) if axis != "none"]
    keys = ["configuration", "base"]
    distinct = averages.drop_duplicates(keys).sort_values([*_SORTED, *keys], kind="stable")
    places = {key: place for place, key in enumerate(distinct[keys].itertuples(index=False, name=None))}
    by_metric = dict(list(counted.groupby("metric"))) if with_runs else {}
    metrics = []
    for row in rows.to_dict("records"):
        chosen = averages[averages["metric"] == row["metric"]]
        if chosen.empty:
            continue
        members = _runs_of(by_metric.get(row["metric"]))
        scale, linear = axis_scale(chosen["score"].to_numpy(float))
        metrics.append({
            "name": str(row["metric"]), "role": row["role"], "scale": scale,
            "linear": linear, "theory": theory(row["expected_sign"]), "summary": summary(row),
            "points": [
                [places[mean.configuration, mean.base], _short(mean.score), _short(mean.target), int(mean.n),
                 members.get((mean.configuration, mean.base), [])]
                for mean in chosen.itertuples()
            ],
        })  # fmt: skip
    shown = [looks.of(name) for name in names["operators"]]
    return Points(
        names=names,
        looks=[{"colour": look.colour, "edge": look.edge, "hollow": look.hollow} for look in shown],
        shapes=[looks.of(None, axis).shape for axis in names["axes"]],
        configurations=[_described(configuration, names) for configuration in distinct.to_dict("records")],
        metrics=metrics,
        with_runs=with_runs,
    )


_SORTED = ["dataset", "model", "expansion", "axis", "budget"]


def _known(values: pd.Series) -> list[str]:
    return sorted({str(value) for value in values.dropna()})


def _described(configuration: dict[Any, Any], names: dict[str, list[str]]) -> list[Any]:
    place = [
        names[key].index(str(configuration[column])) if str(configuration[column]) in names[key] else -1
        for key, column in (("datasets", "dataset"), ("models", "model"), ("operators", "expansion"), ("axes", "axis"))
    ]
    budget = None if pd.isna(configuration["budget"]) else _short(configuration["budget"])
    parameters = None if pd.isna(configuration["parameters"]) else round(configuration["parameters"])
    return [*place, budget, parameters, str(configuration["configuration"])[:24]]


def _runs_of(table: pd.DataFrame | None) -> dict[tuple[str, str], list[list[Any]]]:
    """[seed, first letters of the run's id, score, gain] of each configuration's runs.

    Returns:
        The runs of each (configuration, base model). A single run has no score and gain: they are those of its
        configuration.
    """
    entries: dict[tuple[str, str], list[list[Any]]] = {}
    if table is None:
        return entries
    columns = [table[name] for name in ("configuration", "base", "seed", "score", "gain", "run_id")]
    for configuration, base, seed, score, gain, run_id in zip(*columns, strict=True):
        name = "" if pd.isna(run_id) else str(run_id)[:10]
        entry = [None if pd.isna(seed) else int(seed), name, _short(score), _short(gain)]
        entries.setdefault((configuration, base), []).append(entry)
    return {key: [run[:2] for run in group] if len(group) == 1 else group for key, group in entries.items()}


def _short(value: float) -> float | int:
    """Six significant digits; a whole number without a point."""
    rounded = float(f"{value:.6g}")
    return int(rounded) if rounded == int(rounded) and abs(rounded) < 1e15 else rounded
