"""Whether the correlations hold in groups, in groups that were left out, one choice at a time, and across seeds."""

from __future__ import annotations

from typing import Any

import pandas as pd

from mmbench.report.sections.base import Results, Section
from mmbench.report.table import Column, Table, beyond, column, crossed_table, metrics_table, remark
from mmbench.statistics.target import TARGETS
from mmbench.text import number, signed

CEILING: tuple[Column, ...] = (
    ("score", column("score_reliability")),
    ("gain", column("target_reliability")),
    ("largest |ρ| to expect", column("noise_ceiling")),
    ("|ρ| measured", lambda row: signed(abs(row["spearman"]))),
    ("seeds", column("seeds", lambda value: number(value, 2))),
)


class Robustness(Section):
    """Five tables."""

    title = "Does it hold?"
    order = 70
    template = """
<h3>By group</h3>
{% if groups %}{{ table(groups) }}{% else %}<p>No group has 3 configurations yet.</p>{% endif %}
{% if transfer %}<h3>Leaving one group out</h3>{{ table(transfer) }}{% endif %}
{% if granulated %}<h3>One choice at a time</h3>{{ table(granulated) }}{% endif %}
{% if seeds or ceiling %}<h3>Seeds</h3>{% endif %}
{% if seeds %}{{ table(seeds) }}{% endif %}
{% if ceiling %}{{ table(ceiling) }}{% endif %}
"""

    def content(self, results: Results) -> dict[str, Any] | None:
        """The tables that have rows."""
        if results.rows.empty:
            return None
        return {
            "groups": _groups(results),
            "transfer": _transfer(results),
            "granulated": _granulated(results),
            "seeds": _seeds(results),
            "ceiling": _ceiling(results),
        }


def _metrics(results: Results, table: pd.DataFrame) -> list[str]:
    """The metrics of a table, best agreement with theory first."""
    present = set(table["metric"])
    return [metric for metric in results.rows["metric"] if metric in present]


def _groups(results: Results) -> Table | None:
    """Spearman's rho with the gain, group by metric; smaller groups are in the CSV only."""
    table = results.judgement.correlations
    table = table[(table["target"] == "gain") & (table["n_configurations"] >= 3)]
    names = list(dict.fromkeys(table["group"]))
    if len(names) < 2:
        return None
    cells = {
        (row["group"], row["metric"]): f"{signed(row['spearman'])} ({row['n_configurations']})"
        for row in table.to_dict("records")
    }
    caption = (
        "ρ with the gain in each group of at least 3 configurations (number of configurations); it varies widely from "
        "one small group to the next"
    )
    return crossed_table("group", names, _metrics(results, table), cells, caption + beyond(names, "correlations.csv"))


def _transfer(results: Results) -> Table | None:
    """Whether the sign that was learned elsewhere holds in a group that was left out."""
    table = results.judgement.transfer
    table = table[(table["target"] == "gain") & table["transferred"].notna()]
    labels = [f"{by}={held}" for by, held in sorted(set(zip(table["by"], table["held_out"], strict=True)))]
    cells = {
        (f"{row['by']}={row['held_out']}", row["metric"]): f"{signed(row['transferred'])} ({row['n']})"
        for row in table.to_dict("records")
    }
    caption = (
        "Transfer: ρ in the group that was left out, multiplied by the sign of ρ in the others; positive where the "
        "direction carried over (number of configurations)"
    )
    return crossed_table("left out", labels, _metrics(results, table), cells, caption + beyond(labels, "transfer.csv"))


def _granulated(results: Results) -> Table | None:
    """Kendall's tau with all choices but one fixed."""
    table = results.judgement.granulated
    table = table[(table["target"] == "gain") & table["psi"].notna()]
    choices = list(dict.fromkeys(table["axis"]))
    cells = {
        (row["axis"], row["metric"]): f"{signed(row['psi'])} ({row['strata']})" for row in table.to_dict("records")
    }
    caption = "Granulated Kendall: mean τ with the gain where only one choice differs (number of groups)"
    return crossed_table(
        "what differs", choices, _metrics(results, table), cells, caption + beyond(choices, "granulated.csv")
    )


def _seeds(results: Results) -> Table | None:
    """How well each target agrees from seed to seed."""
    rows = [
        [
            TARGETS.get(row["target"], row["target"]),
            number(row["seeds"]),
            str(row["configurations"]),
            *(signed(row[name]) for name in ("single", "mean", "ceiling")),
            remark(row),
        ]
        for row in results.judgement.reliability.to_dict("records")
    ]
    headings = ["target", "seeds", "configurations", "one seed", "mean of the seeds", "largest ρ", "remark"]
    caption = "Agreement of the seeds (intraclass correlation of ranks), and the largest ρ that it allows"
    return Table(headings, rows, caption, running={6}).without_empty(6) if rows else None


def _ceiling(results: Results) -> Table | None:
    known = results.rows[results.rows["noise_ceiling"].notna()]
    caption = "Reliability of score and gain, and the largest |ρ| that follows (the noise ceiling)"
    return metrics_table(known, CEILING, caption) if len(known) else None
