"""How well a metric chooses expansions."""

from __future__ import annotations

from typing import Any

from mmbench.report.sections.base import Results, Section
from mmbench.report.table import REGRET, Column, column, metrics_table
from mmbench.text import number, percent, points

COLUMNS: tuple[Column, ...] = (
    REGRET,
    ("by chance", column("random_regret_at_1", points)),
    ("at equal budget", column("equal_budget_regret_at_1", points)),
    ("precision at 3", column("precision_at_3", percent)),
    ("by chance", column("random_precision_at_3", percent)),
    ("sign error: mean", column("sign_error_mean")),
    ("90th percentile", column("sign_error_p90")),
    ("max", column("sign_error_max")),
    ("environments", column("sign_error_environments", number)),
)


class Choice(Section):
    """Regret, precision and sign error."""

    title = "Choosing by a metric"
    order = 50
    template = """
{% call beside(figure) %}
Train the first k choices of a metric to the end and keep the best. Its regret is how many accuracy points it is below
the best of all candidates. The cost includes the metric on all candidates.
{% endcall %}
{{ table(choices) }}
"""

    def content(self, results: Results) -> dict[str, Any] | None:
        """The table of all metrics."""
        if results.rows.empty:
            return None
        caption = (
            "Regret: accuracy points lost by the first choice. Precision at 3: share of the three best expansions that "
            "are among the first three choices. Sign error: how often two configurations that differ in one choice "
            "are ranked in the wrong order (0.5 is chance)"
        )
        return {
            "figure": results.drawings.get("regret"),
            "choices": metrics_table(results.rows, COLUMNS, caption),
        }
