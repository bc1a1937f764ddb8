"""How well each metric ranks the gains when it is taken along the training, and what that costs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mmbench.report.figures.moments import target_along
from mmbench.report.sections.base import Results, Section
from mmbench.report.table import Table, cost
from mmbench.statistics.moments import shown_tau
from mmbench.statistics.target import TARGETS
from mmbench.text import DASH, is_missing, listed, signed

MOST = 8
"""Moments of the table; of more, the first, the last and some between."""


class AlongTraining(Section):
    """tau(M_t, G*) along t: a figure and a table."""

    title = "Along the training"
    order = 54
    template = """
{% call beside(figure) %}
Kendall's τ of each metric, taken on the expanded model after some training, with the {{ target }}. {{ how }} A dotted
line is a metric that was measured once. A later score knows more and costs the training up to there. All other
sections use each metric's first moment{{ later }}.
{% endcall %}
{{ table(moments) }}
"""

    def content(self, results: Results) -> dict[str, Any] | None:
        """The figure and the table, if a metric was taken at a later moment."""
        moments = results.judgement.moments
        if moments.empty:
            return None
        target, columns = target_along(moments), shown_tau(moments)
        within = columns[0] == "kendall_within"
        how = (
            "τ is that among the expansions of one trained base model, averaged over base models; the band is "
            "the 95 % interval over them."
            if within
            else "τ is over configurations, averaged over seeds; the band is its 95 % interval."
        )
        return {
            "figure": results.drawings.get("tau_along"),
            "target": TARGETS[target],
            "how": how,
            "later": _later(results),
            "moments": _table(moments[moments["target"] == target], columns[0], TARGETS[target]),
        }


def _later(results: Results) -> str:
    """Which metrics have no score right after the expansion."""
    names = [str(metric) for metric in results.rows["metric"] if " after " in str(metric)]
    return f", which is later than the expansion for {listed(names, 4)}" if names else ""


def _table(rows: pd.DataFrame, tau: str, target: str) -> Table:
    labels = rows.sort_values("after")["moment"].drop_duplicates().tolist()
    if len(labels) > MOST:
        labels = [labels[place] for place in np.linspace(0, len(labels) - 1, MOST).round().astype(int)]
    by_metric: dict[str, dict[str, str]] = {}
    for row in rows.to_dict("records"):
        by_metric.setdefault(str(row["metric"]), {})[row["moment"]] = _cell(row, tau)
    cells = [[metric, *(known.get(label, DASH) for label in labels)] for metric, known in by_metric.items()]
    caption = (
        f"τ with the {target}, and the cost up to there as a share of the training; all moments are in moments.csv"
    )
    return Table(["metric", *(label or "at once" for label in labels)], cells, caption)


def _cell(row: dict[Any, Any], tau: str) -> str:
    return DASH if is_missing(row[tau]) else f"{signed(row[tau])} ({cost(row)})"
