"""The correlation of each metric with the gain: the report's first table."""

from __future__ import annotations

from typing import Any

from mmbench.report.sections.base import Results, Section
from mmbench.report.table import INTERVAL, RHO, SIGN, Column, column, cost, interval_of, metrics_table, remark
from mmbench.text import listed, probability

COLUMNS: tuple[Column, ...] = (
    SIGN,
    RHO,
    INTERVAL,
    ("q", column("q_value", probability)),
    ("τ", column("kendall")),
    ("n", lambda row: f"{row['n_configurations']} ({row['n']})"),
    ("given size and base", column("partial_spearman")),
    ("its 95 % interval", interval_of("partial_low", "partial_high")),
    ("cost / training", cost),
)


class Correlations(Section):
    """A figure of all metrics, the table, and what limits its rows."""

    title = "Correlations"
    order = 10
    template = """
{% call beside(figure) %}
Spearman's ρ of score and gain over all configurations (thick line: its 95 % interval) and within groups of one data
set, base model and budget (thin line). The sign in brackets is the one that theory expects; it was fixed before any
result was seen. Shaded metrics are baselines and controls. A useful metric beats the baselines, and random should not
correlate.
{% endcall %}
{{ table(correlations) }}
{{ bullets(remarks, "caveats") }}
"""

    def content(self, results: Results) -> dict[str, Any] | None:
        """The table of all metrics."""
        if results.rows.empty:
            return None
        caption = "Rank correlation of each metric with the gain over all runs, best agreement with theory first"
        return {
            "figure": results.drawings.get("overview"),
            "correlations": metrics_table(results.rows, COLUMNS, caption),
            "remarks": _remarks(results),
        }


def _remarks(results: Results) -> list[str]:
    """What limits the rows; metrics with the same remark share a sentence."""
    metrics: dict[str, list[str]] = {}
    for row in results.rows.to_dict("records"):
        if text := remark(row):
            metrics.setdefault(text, []).append(str(row["metric"]))
    return [f"{'All' if len(names) == len(results.rows) else listed(names)}: {text}" for text, names in metrics.items()]
