"""What leaves each metric unchanged, as measured by `benchmarks/studies/invariances.py` and kept in assets/."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from html import escape
from importlib.resources import files

from mmbench.report.html import Html, html_table

Row = dict[str, str]
NOTE = """<p class="note">How far a score moves, relative to itself, when the weights change and the predictions do
not: channels permuted; ReLU units rescaled; hidden units duplicated, their outgoing weights halved; a constant added to
all logits; batch norms folded into convolutions. A metric that such a change moves reads more than the function.
Measured once, on a small MLP and a small residual network in float64 with few images, probes and steps, not on the
networks of this report. Unchanged: by less than 10<sup>−6</sup>. In brackets: by less than 3 standard errors over 16
seeds, so that no change is shown. A dash: undefined, or not measured.</p>"""


def certificates() -> list[Row]:
    """The rows of `invariances.csv`: metric, network, change, verdict, drift, error, reason."""
    lines = files("mmbench.report").joinpath("assets", "invariances.csv").read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def section(metrics: Iterable[str]) -> str:
    """The report's table of some metrics, as HTML."""
    rows = certificates()
    columns = list(dict.fromkeys((row["network"], row["change"]) for row in rows))
    known = {(row["metric"], row["network"], row["change"]): row for row in rows}
    body = [([str(metric), *(_cell(known.get((metric, *column))) for column in columns)], "") for metric in metrics]
    headings = [
        "metric",
        *(Html(f"{escape(change)}<br><small>{escape(network)}</small>") for network, change in columns),
    ]
    return NOTE + html_table(headings, body, caption="Change of each score under changes that keep the predictions")


def _cell(row: Row | None) -> str | Html:
    if row is None:
        return "–"
    if row["verdict"] == "undefined":
        return Html(f'<span title="{escape(row["reason"])}">–</span>')
    if row["verdict"] == "invariant":
        return "unchanged"
    drift, error = float(row["drift"]), float(row["error"])
    number = f"{_percent(drift)} %" if drift > 20 * error else f"{_percent(drift)} ± {_percent(error)} %"
    return f"({number})" if row["verdict"] == "within error" else number


def _percent(share: float) -> str:
    return f"{100 * share:.0f}" if share >= 0.1 else f"{100 * share:.2g}"
