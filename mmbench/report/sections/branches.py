"""The branches that the manifold metric trains: their loss, their barriers, whether they are connected."""

from __future__ import annotations

from typing import Any

from mmbench.report.sections.base import Results, Section
from mmbench.report.table import MOST, Table
from mmbench.text import number, percent

COLUMNS = {
    "manifold_barrier": "barrier, nats",
    "manifold_connected": "connected",
    "manifold_distance": "distance / norm",
    "manifold_branch_loss": "loss at the ends, nats",
}
"""Columns of the records, and their headings."""


class Branches(Section):
    """Two curves and a table of means."""

    title = "Branches"
    order = 80
    template = """
{% call beside(figure) %}
The manifold metric trains branches from the expanded network, each with its own order of the images, and joins their
ends by straight lines. First panel: the training loss along the branches. Second panel: the loss on the lines; a hump
is a barrier. Both are means over configurations and seeds.
{% endcall %}
{% if not figure %}<p class="note">These records do not hold the loss along the branches and between them. Runs of this
version of mmbench do.</p>{% endif %}
{% if means %}{{ table(means) }}{% endif %}
"""

    def content(self, results: Results) -> dict[str, Any] | None:
        """The figure or the table, if the records hold either."""
        figure, means = results.drawings.get("branches"), _means(results)
        return {"figure": figure, "means": means} if figure or means else None


def _means(results: Results) -> Table | None:
    """Mean over the runs of each data set, model and operator."""
    frame = results.frame
    present = [name for name in COLUMNS if name in frame]
    done = frame[(frame["status"] == "done") & frame["metric"].fillna("").str.startswith("manifold")]
    if not present or done.empty:
        return None
    keys = ["dataset", "model", "expansion"]
    means = done.groupby(keys)[present].mean().reset_index()
    rows = [
        [
            ", ".join(str(row[key]) for key in keys),
            *((percent if name == "manifold_connected" else number)(row[name]) for name in present),
        ]
        for row in means[:MOST].to_dict("records")
    ]
    caption = "The branches of the manifold metric, mean over runs; connected: share of thresholds above the barrier"
    return Table(["data set, model, operator", *(COLUMNS[name] for name in present)], rows, caption)
