"""The expansion strategies ranked by what they gain: the report's first table."""

from __future__ import annotations

from typing import Any

from mmbench.report.sections.base import Results, Section
from mmbench.report.table import MOST, Row, Table, crossed_table
from mmbench.statistics.strategies import ranking
from mmbench.text import DASH, is_missing, number, percent, points, probability, signed


class Strategies(Section):
    """A figure, the ranking, and the ranking in each group."""

    title = "Which expansion gains most?"
    order = 5
    template = """
{% call beside(figure) %}
Each expansion's gain minus the mean gain of all expansions of the same trained base model at the same budget, averaged
over base models (line: 95 % interval; {{ unit }} are the unit). Shaded: the controls, which are the lines to beat.
Below, mean ranks: expansions under one bar cannot be told apart (Friedman and Nemenyi).
{% endcall %}
{{ table(strategies) }}
{% if groups %}{{ table(groups) }}{% endif %}
"""

    def content(self, results: Results) -> dict[str, Any] | None:
        """The tables, once two strategies have a gain."""
        table = results.judgement.strategies
        rows = ranking(table)
        if len(rows) < 2:
            return None
        caption = (
            "Expansion strategies by gain. Difference: accuracy points above the mean of the expansions of the same "
            "trained base model and budget. Wins: share of cells in which it is better than another, mean over others. "
            "P(best): how often it is the best when base models are drawn again. Points / s: per training second. "
            "n: trainings"
        )
        records = rows.to_dict("records")
        shaded = {place for place, row in enumerate(records) if row["arm"] != "expansion"}
        shown = [[str(row["strategy"]), *(show(row) for _, show in COLUMNS)] for row in records]
        return {
            "figure": results.drawings.get("strategies"),
            "unit": str(rows["unit"].iloc[0]),
            "strategies": Table(["strategy", *(heading for heading, _ in COLUMNS)], shown, caption, shaded=shaded),
            "groups": _groups(results),
        }


def _difference(row: Row) -> str:
    text = points(row["difference"])
    if is_missing(row["ci_low"]):
        return text
    return f"{text} [{points(row['ci_low'])}, {points(row['ci_high'])}]"


COLUMNS = (
    ("gain", lambda row: points(row["mean"])),
    ("difference [95 %]", _difference),
    ("p", lambda row: probability(row["p_value"])),
    ("mean rank", lambda row: DASH if is_missing(row["mean_rank"]) else signed(row["mean_rank"])),
    ("wins", lambda row: percent(row["win_share"])),
    ("best in", lambda row: percent(row["best_share"])),
    ("P(best)", lambda row: percent(row["best_probability"])),
    ("points / s", lambda row: number(100 * row["gain_per_second"])),
    ("n (base models)", lambda row: f"{row['n']} ({row['n_base_models']})"),
)


def _groups(results: Results) -> Table | None:
    table = results.judgement.strategies
    table = table[table["group"] != "all"]
    labels = list(dict.fromkeys(table["group"]))
    if len(labels) < 2:
        return None
    cells = {
        (row["group"], row["strategy"]): f"{points(row['difference'])} ({row['n_cells']})"
        for row in table.to_dict("records")
    }
    names = [str(name) for name in ranking(results.judgement.strategies)["strategy"]]
    caption = "Difference in accuracy points in each group (number of cells)"
    more = f"; {len(labels) - MOST} more groups are in strategies.csv" if len(labels) > MOST else ""
    return crossed_table("group", labels, names, cells, caption + more, across="strategy")
