"""The manifold metric against every other metric, on the same configurations."""

from __future__ import annotations

from typing import Any

from mmbench.report.sections.base import Results, Section
from mmbench.report.table import Table, remark
from mmbench.text import interval, probability, signed

WHERE = {"spearman": "over all", "equal_budget_spearman": "at equal budget"}


class Rivals(Section):
    """The paired difference of two correlations, a row per rival."""

    title = "Manifold against the others"
    order = 40
    template = """
{% if differences %}{{ table(differences) }}
{% else %}<p>There is no manifold metric, or nothing to compare it with.</p>
{% endif %}
"""

    def content(self, results: Results) -> dict[str, Any] | None:
        """The table of differences."""
        if results.rows.empty:
            return None
        table = results.judgement.differences
        table = table[(table["target"] == "gain") & (table["group"] == "all")]
        order = table.sort_values(["metric", "statistic", "rival"], ascending=[True, False, True])
        rows = [
            [
                f"{row['metric']} against {row['rival']}",
                WHERE.get(row["statistic"], str(row["statistic"])),
                *(signed(row[name]) for name in ("rho", "rival_rho", "difference")),
                interval(row["ci_low"], row["ci_high"]),
                probability(row["p_value"]),
                probability(row["q_value"]),
                str(row["n_configurations"]),
                remark(row),
            ]
            for row in order.to_dict("records")
        ]
        headings = ["metrics", "where", "ρ", "ρ of the rival", "difference", "95 % interval", "p", "q", "n", "remark"]
        caption = (
            "Both correlations, each multiplied by its expected sign, and their paired difference; "
            "above 0 the manifold metric is better"
        )
        return {"differences": Table(headings, rows, caption, running={9}).without_empty(9) if rows else None}
