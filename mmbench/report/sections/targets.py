"""The correlation of each metric with the other targets: a score can predict one target and not another."""

from __future__ import annotations

from typing import Any

from mmbench.report.sections.base import Results, Section
from mmbench.report.table import Table, named, shaded
from mmbench.statistics.target import TARGETS
from mmbench.text import DASH, interval, signed


class Targets(Section):
    """A row per metric, a column per target."""

    title = "Other targets"
    order = 60
    template = "{{ table(targets) }}"

    def content(self, results: Results) -> dict[str, Any] | None:
        """The table, if there is a second target."""
        table = results.judgement.correlations
        table = table[(table["group"] == "all") & (table["n_configurations"] > 0)]
        present = [target for target in TARGETS if (table["target"] == target).any()]
        if len(present) < 2:
            return None
        by_metric: dict[str, dict[str, Any]] = {}
        for row in table.to_dict("records"):
            by_metric.setdefault(row["metric"], {})[row["target"]] = row
        metrics = [metric for metric in results.rows["metric"] if metric in by_metric]
        first = [next(iter(by_metric[metric].values())) for metric in metrics]
        rows = [
            [named(row), *(_cell(by_metric[metric].get(target)) for target in present)]
            for metric, row in zip(metrics, first, strict=True)
        ]
        headings = ["metric", *(TARGETS[target] for target in present)]
        caption = (
            "ρ with each target and its 95 % interval. A larger generalisation gap is worse, so the opposite sign is "
            "expected there"
        )
        return {"targets": Table(headings, rows, caption, shaded=shaded(first))}


def _cell(row: dict[str, Any] | None) -> str:
    return DASH if row is None else f"{signed(row['spearman'])} {interval(row['ci_low'], row['ci_high'])}"
