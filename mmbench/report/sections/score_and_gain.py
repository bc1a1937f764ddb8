"""The manifold metric and the gain in validation accuracy along the training."""

from __future__ import annotations

from typing import Any

from mmbench.report.figures.candidates import largest_cell
from mmbench.report.sections.base import Results, Section
from mmbench.statistics.configurations import prepare


class ScoreAndGain(Section):
    """One figure."""

    title = "Score and gain along the training"
    order = 56
    template = """
{% call beside(figure) %}
{{ cell }}. M is the manifold metric of the expanded model after some epochs of training. G is its validation accuracy
minus the best of its base model; its maximum is the best validation gain. Lines are means over seeds, bands one
standard error to both sides.
{% endcall %}
"""

    def content(self, results: Results) -> dict[str, Any] | None:
        """The figure, if the store holds either along the training."""
        figure = results.drawings.get("gains")
        if figure is None:
            return None
        runs = prepare(results.frame)
        cell = largest_cell(runs[runs["done"]])
        return {"figure": figure, "cell": ", ".join(map(str, cell or ()))}
