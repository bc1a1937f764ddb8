"""The advice as a table and as a self-contained HTML page."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from mmbench.records.frame import write_table
from mmbench.report.figures.style import AGREES, OPEN, STYLE, WIDTH
from mmbench.report.table import Table
from mmbench.report.template import asset, render
from mmbench.store.files import replacing
from mmbench.text import is_missing, number

COLUMNS = {
    "rank": "rank", "expansion": "expansion", "axis": "axis", "factor": "factor", "parameters": "parameters",
    "score": "score", "score_stderr": "±", "decided": "against the first", "rounds": "rounds", "seconds": "spent, s",
    "train_seconds": "training, s",
}  # fmt: skip
"""The columns of the ranking that the page shows, and their headings."""
BRIEF = {
    name: COLUMNS[name] for name in ("rank", "expansion", "parameters", "score", "score_stderr", "decided", "rounds")
}
"""The columns that fit a terminal."""
TEMPLATE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>mmbench: advice</title>
<style>{{ style }}</style>
</head>
<body><main>
<h1>Which expansion to choose</h1>
{{ paragraphs(about) }}
<h2>Ranking</h2>
{% if chart %}<figure><img src="{{ chart }}" alt="{{ ranking.caption }}"></figure>{% endif %}
{{ table(ranking) }}
<h2>How far to trust it</h2>
{{ paragraphs(evidence) }}
{% if left_out.rows %}
<h2>Left out</h2>
{{ table(left_out) }}
{% endif %}
</main></body>
</html>
"""
CAPTION = "Scores with their standard errors. Blue: may be the best. Grey: clearly behind."


def write_advice(table: pd.DataFrame, evidence: Sequence[str], about: str, folder: Path) -> tuple[Path, Path]:
    """Write advice.csv and the self-contained advice.html.

    Args:
        table: a ranking, as of `mmbench.advise`.
        evidence: sentences on how far the ranking can be trusted.
        about: what was ranked, in a sentence.
        folder: where the files go; it must exist.

    Returns:
        The paths of the two files.
    """
    csv, page = folder / "advice.csv", folder / "advice.html"
    write_table(table, csv)
    scored, failed = table[table["rank"].notna()], table[table["rank"].isna()]
    left_out = [*table.attrs["left_out"], *failed.to_dict("records")]
    text = render(
        TEMPLATE,
        style=asset("report.css"),
        about=[about, *costs(table)],
        chart=_chart(scored) if len(scored) else "",
        ranking=Table([*COLUMNS.values()], [shown(row) for row in scored.to_dict("records")], CAPTION, running={1}),
        evidence=[*evidence, *(f"Measured: {definition}" for definition in table.attrs["metrics"])],
        left_out=Table(
            ["expansion", "axis", "reason"],
            [[str(entry[name]) for name in ("expansion", "axis", "reason")] for entry in left_out],
            "Ways to expand that have no score",
            kind="words",
            running={2},
        ),
    )
    with replacing(page) as path:
        path.write_text(text, encoding="utf-8")
    return csv, page


def shown(row: Mapping[Any, Any], columns: Iterable[str] = COLUMNS) -> list[str]:
    """Columns of a row of the ranking as text."""
    return ["" if row["rank"] == 1 and name == "decided" else _cell(name, row[name]) for name in columns]


def _cell(name: str, value: Any) -> str:
    if name == "decided":
        return "clearly behind" if value else "unclear"
    if name in ("rank", "parameters", "rounds"):
        return f"{int(value):,}"
    return number(value) if isinstance(value, float) or is_missing(value) else str(value)


def costs(table: pd.DataFrame) -> list[str]:
    """What was measured and what was not, and the time for it, compared with that of training the candidates."""
    measured, candidates = table.attrs["measured"], table.attrs["candidates"]
    seconds = table.attrs["seconds"]
    sentences = [f"Measured {measured} of {candidates} candidates in {seconds:.0f} seconds."]
    if measured < 2:
        sentences.append("So this is no choice between candidates; give more time, or a metric that costs less.")
    elif measured < candidates:
        sentences.append("The others may be better.")
    train = table["train_seconds"].dropna()
    if len(train):
        total = train.mean() * candidates
        sentences.append(
            f"Training one of them would take about {train.median():.0f} seconds, training all {total:.0f}: the advice "
            f"cost {100 * seconds / total:.0f} % of that."
        )
    return [" ".join(sentences)]


def unmeasured(table: pd.DataFrame) -> list[str]:
    """A sentence for each reason why candidates have no score, with their names."""
    failed = table[table["rank"].isna()]
    reasons = failed["reason"].str.replace(r"( was used up):.*", r"\1", regex=True)
    return [
        f"{', '.join(rows['expansion'] + ' ' + rows['axis'])}: not measured, because {reason}"
        for reason, rows in failed.groupby(reasons, sort=False)
    ]


def _chart(scored: pd.DataFrame) -> str:
    """The scores with their errors, best first, as the address of an embedded SVG."""
    with rc_context(STYLE):
        figure = Figure(figsize=(1.5 * WIDTH, 0.6 + 0.28 * len(scored)))
        axes = figure.subplots()
        for place, row in enumerate(scored.to_dict("records")):
            error = 0.0 if is_missing(row["score_stderr"]) else row["score_stderr"]
            axes.errorbar(row["score"], place, xerr=error, fmt="o", color=OPEN if row["decided"] else AGREES)
        axes.set_yticks(range(len(scored)), [f"{row.expansion} {row.axis}" for row in scored.itertuples()])
        axes.set_ylim(len(scored) - 0.5, -0.5)
        axes.set_xlabel("score")
        svg = BytesIO()
        FigureCanvasSVG(figure).print_svg(svg, metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.getvalue()).decode()}"
