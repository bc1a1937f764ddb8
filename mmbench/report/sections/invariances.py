"""What leaves each metric unchanged, as measured by `benchmarks/studies/invariances.py` and kept in assets/."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from mmbench.report.sections.base import Results, Section
from mmbench.report.table import Table
from mmbench.text import DASH, metric_name

FILE = Path(__file__).parents[1] / "assets" / "invariances.csv"
Row = dict[str, str]


class Invariances(Section):
    """A row per metric of the report that was measured."""

    title = "What leaves each metric unchanged"
    order = 100
    template = """
<p class="note">How far a score moves, relative to itself, when the weights change and the predictions do not: channels
permuted; ReLU units rescaled; hidden units duplicated, with half the outgoing weights each; a constant added to all
logits; batch norms folded into convolutions. A metric that moves depends on more than the function. Measured once, in
float64 with few images, probes and steps, on a small MLP and a small residual network, not on the networks of this
report. Unchanged: moves by less than 10<sup>−6</sup>. In brackets: moves by less than 3 standard errors over 16 seeds,
so no change is shown. A dash: undefined, or not measured.</p>
{{ table(changes) }}
"""

    def content(self, results: Results) -> dict[str, Any] | None:
        """The table, if any metric of the report was measured."""
        rows = certificates()
        measured = {row["metric"] for row in rows}
        names = dict.fromkeys(metric_name(str(metric)) for metric in results.rows["metric"])
        metrics = [name for name in names if name in measured]
        return {"changes": changes_table(metrics, rows)} if metrics else None


def certificates() -> list[Row]:
    """The rows of `invariances.csv`: metric, network, change, verdict, drift, error, reason."""
    lines = FILE.read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def changes_table(metrics: Sequence[str], rows: Sequence[Row]) -> Table:
    """Some metrics against the changes of all rows."""
    columns = list(dict.fromkeys((row["network"], row["change"]) for row in rows))
    known = {(row["metric"], row["network"], row["change"]): row for row in rows}
    return Table(
        headings=[
            "metric",
            *(Markup("{}<br><small>{}</small>").format(change, network) for network, change in columns),
        ],
        rows=[[metric, *(_cell(known.get((metric, *column))) for column in columns)] for metric in metrics],
        caption="Change of each score under changes that keep the predictions",
    )


def _cell(row: Row | None) -> str:
    if row is None:
        return DASH
    if row["verdict"] == "undefined":
        return Markup('<span title="{}">{}</span>').format(row["reason"], DASH)
    if row["verdict"] == "invariant":
        return "unchanged"
    drift, error = float(row["drift"]), float(row["error"])
    change = f"{_percent(drift)} %" if drift > 20 * error else f"{_percent(drift)} ± {_percent(error)} %"
    return f"({change})" if row["verdict"] == "within error" else change


def _percent(share: float) -> str:
    return f"{100 * share:.0f}" if share >= 0.1 else f"{100 * share:.2g}"
