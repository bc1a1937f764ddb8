"""The barriers of one base model and its expansions."""

from __future__ import annotations

from typing import Any

from mmbench.report.figures.barriers import one_base
from mmbench.report.sections.base import Results, Section
from mmbench.statistics.configurations import at_start, prepare
from mmbench.statistics.manifold_grid import CHOICE


class BarriersSection(Section):
    """One figure."""

    title = "Barriers"
    order = 52
    template = """
{% call beside(figure) %}
{{ cell }}. Each network is joined to {{ nodes }} copies of itself, whose units are permuted, and |b| is the barrier on
the line. The threshold is the base model's {{ q }} quantile. The lower panel shows the share of nodes at or below a
barrier: at the threshold, the manifold metric at this quantile is the height of an expansion's line above the dotted
one. Zeros, as between duplicated or dead units, stand at the left.
{% endcall %}
"""

    def content(self, results: Results) -> dict[str, Any] | None:
        """The figure, if the store holds barriers."""
        figure = results.drawings.get("barriers")
        if figure is None:
            return None
        runs = one_base(at_start(prepare(results.frame)), results.traces.barriers)
        first = runs.iloc[0]
        nodes = min(results.traces.barriers[str(run_id)].nodes for run_id in runs["run_id"])
        cell = f"{first['dataset']}, {first['model']}, {first['training']}, seed {first['seed']:g}"
        return {"figure": figure, "cell": cell, "nodes": f"{nodes:,}", "q": f"{CHOICE[0]:g}"}
