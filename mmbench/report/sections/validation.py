"""How far the best validation gain, the paper's target, flatters."""

from __future__ import annotations

from typing import Any

from mmbench.report.sections.base import Results, Section
from mmbench.report.table import MOST, Table
from mmbench.text import DASH, MINUS, is_missing, points, signed


class Validation(Section):
    """One sentence and a table."""

    title = "Choosing on validation"
    order = 62
    template = """
<p>{{ sentence }}</p>
{{ table(trainings) }}
"""

    def content(self, results: Results) -> dict[str, Any] | None:
        """The table, if the records hold the best validation gain."""
        table = results.judgement.validation
        if table.empty:
            return None
        shown = table[:MOST].to_dict("records")
        rows = [
            [
                ", ".join(str(row[key]) for key in ("dataset", "model", "training")),
                points(row["best_validation_gain"]),
                points(row["gain"]),
                f"{_plus(row['flattery'])}{_interval(row)}",
                signed(row["spearman"]),
                signed(row["kendall"]),
                f"{row['n']} ({row['n_base_models']})",
            ]
            for row in shown
        ]
        headings = ["data set, model, training", "best validation gain", "gain in test accuracy", "difference"]
        caption = "Mean gains in accuracy points, and the rank correlation of both over configurations"
        whole = (table["flattery"] * table["n"]).sum() / table["n"].sum()
        return {
            "sentence": (
                "The best validation gain is the best of many evaluations, on the images that choose it; the gain in "
                "test accuracy is that of the same weights on other images. On average, the former is "
                f"{points(abs(whole))} points {'higher' if whole >= 0 else 'lower'}."
            ),
            "trainings": Table([*headings, "ρ", "τ", "trainings (base models)"], rows, caption),
        }


def _plus(share: Any) -> str:
    text = points(share)
    return text if text.startswith((MINUS, DASH)) else f"+{text}"


def _interval(row: dict[Any, Any]) -> str:
    if is_missing(row["flattery_low"]):
        return ""
    return f" [{points(row['flattery_low'])}, {points(row['flattery_high'])}]"
