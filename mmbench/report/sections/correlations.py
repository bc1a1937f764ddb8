"""The correlation of each metric with the gain: the report's first table."""

from __future__ import annotations

from typing import Any

from mmbench.report.sections.base import Results, Section
from mmbench.report.table import INTERVAL, OVERALL, RHO, SIGN, Column, column, cost, interval_of, metrics_table, remark
from mmbench.text import is_missing, listed, percent, probability

COLUMNS: tuple[Column, ...] = (
    SIGN,
    RHO,
    INTERVAL,
    ("q", column("within_base_q", probability)),
    ("expected sign", column("within_base_signs", lambda value: "" if is_missing(value) else str(value))),
    ("I²", column("within_base_i2", percent)),
    ("n", lambda row: f"{row['n_configurations']} ({row['n']})"),
    OVERALL,
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
Spearman's ρ of score and gain among the expansions of a base model, mean over base models (thick line: its 95 %
interval; base models are the unit), and within groups of one data set, base model and budget (thin line). The sign in
brackets is the one that theory expects; it was fixed before any result was seen. Shaded metrics are baselines and
controls. A useful metric beats the baselines, and random should not correlate. The overall ρ mixes base models, which
differ in score and gain for reasons that nobody can choose: it can have any sign.
{% endcall %}
{{ table(correlations) }}
{{ bullets(remarks, "caveats") }}
"""

    def content(self, results: Results) -> dict[str, Any] | None:
        """The table of all metrics."""
        if results.rows.empty:
            return None
        caption = (
            "Rank correlation of each metric with the gain among the expansions of a base model, best agreement with "
            "theory first. Expected sign: base models in which ρ has it. I²: share of the spread between base models "
            "that chance does not explain. n: expansions (runs)"
        )
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
