"""The training loss of base and expanded models."""

from __future__ import annotations

from typing import Any

from mmbench.report.figures.curves import PANELS
from mmbench.report.sections.base import Results, Section


class TrainingCurves(Section):
    """One figure."""

    title = "Training curves"
    order = 90
    template = """
{% call beside(figure) %}
Mean loss of the batches over configurations and seeds, for the base model and for each operator. Controls are dashed;
scratch_matched trains longer, by the compute that the base model took.
{% if panels > most %}The first {{ most }} of {{ panels }} pairs of data set and model.{% endif %}
{% if left_out %}This is a sample: {{ "{:,}".format(left_out) }} stage results were not read.{% endif %}
{% endcall %}
"""

    def content(self, results: Results) -> dict[str, Any] | None:
        """The figure, if the store holds training curves."""
        figure = results.drawings.get("training")
        panels = {(curve.dataset, curve.model) for curve in results.traces.curves}
        content = {"figure": figure, "panels": len(panels), "most": PANELS, "left_out": results.traces.left_out}
        return content if figure else None
