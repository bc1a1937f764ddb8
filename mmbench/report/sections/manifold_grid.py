"""The manifold metric over its quantiles and numbers of nodes, and what choosing the best of them is worth."""

from __future__ import annotations

from typing import Any

from mmbench.report.sections.base import Results, Section
from mmbench.report.table import Table
from mmbench.statistics.manifold_grid import SHUFFLES
from mmbench.statistics.target import TARGETS
from mmbench.text import probability, signed


class ManifoldGrid(Section):
    """A heat map, and the two choices from it."""

    title = "Quantile and nodes"
    order = 53
    template = """
{% if choices is none %}
<p>{{ remark }}</p>
{% else %}
{% call beside(figure) %}
Kendall's τ of the manifold metric with the gain among the expansions of one trained base model, averaged over base
models, for each quantile q and number of nodes n of the paper's grid. All settings are read off the same stored
barriers. The paper reports the best of its grid, which is high by chance alone; so look at the setting that was fixed
beforehand.
{% endcall %}
{{ table(choices) }}
{% endif %}
"""

    def content(self, results: Results) -> dict[str, Any] | None:
        """The figure and the table, or why there is none although the store holds barriers."""
        grid, choices = results.traces.grid, results.traces.grid.choices
        if choices.empty:
            return {"choices": None, "remark": grid.remark} if grid.remark and results.traces.barriers else None
        several = choices["metric"].nunique() > 1
        rows = [
            [
                ("fixed beforehand" if row["choice"] == "fixed" else f"best of {row['settings']}")
                + (f", {row['metric']}" if several else ""),
                TARGETS[row["target"]],
                f"{row['q']:g}",
                f"{row['n']}",
                signed(row["kendall_within"]),
                signed(row["by_chance"]),
                probability(row["p_value"]),
                str(row["n_base_models"]),
            ]
            for row in choices.to_dict("records")
        ]
        caption = (
            f"By chance and p: {SHUFFLES:,} times the gains are shuffled among the expansions of each base model, and "
            "the choice is made anew"
        )
        headings = ["setting", "target", "q", "n", "τ", "by chance", "p", "base models"]
        return {"figure": results.drawings.get("manifold_grid"), "choices": Table(headings, rows, caption, running={1})}
