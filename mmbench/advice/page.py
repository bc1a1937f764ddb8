"""How far a ranking can be trusted: what following it has cost and gained in earlier sweeps; and the page of advice."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from mmbench.records.frame import write_table
from mmbench.report.table import Table
from mmbench.report.template import asset, render
from mmbench.statistics.configurations import configurations
from mmbench.statistics.regret import random_regret, regret_at_1
from mmbench.store.files import replacing
from mmbench.text import metric_name

CHOICE = 2
"""Configurations of one budget from which on there is a choice."""


def track_record(frame: pd.DataFrame, family: str, metrics: Mapping[str, str]) -> list[str]:
    """What choosing by the metrics lost and gained on earlier configurations of the family: together, and each.

    `metrics` maps names to definitions. Records of another definition count only where there are none of this one.

    Inside every cell of equal data set, base model and budget the configuration of the best score (of the best mean
    rank, by several metrics together) is chosen; its gain is compared with the best one's and with the mean, in points
    of test accuracy, averaged over cells.
    """
    units = configurations(_as_defined(frame, metrics), "gain")
    units = units[(units["model"] == family) & (units["arm"] == "expansion") & (units["budget_cell"] >= 0)]
    signs = frame.dropna(subset=["metric"]).drop_duplicates("metric").set_index("metric")["expected_sign"]
    found = {name: _choices(units[units["metric"].map(metric_name) == name], signs.get(name)) for name in metrics}
    sentences = [_sentence(rows, name, family) for name, rows in found.items()]
    if len(found) < 2 or any(rows.empty for rows in found.values()):
        return sentences
    ranks = [rows.groupby("budget_cell")["merit"].rank(pct=True) for rows in found.values()]
    joint = pd.concat(ranks, axis=1, join="inner").mean(axis=1).rename("merit")
    first = next(iter(found.values()))[["budget_cell", "target"]]
    return [_sentence(first.join(joint, how="inner"), f"the mean rank of {' and '.join(found)}", family), *sentences]


def _as_defined(frame: pd.DataFrame, metrics: Mapping[str, str]) -> pd.DataFrame:
    """The records, those of one definition being one metric, whatever the training that their points shorten."""
    if "definition" not in frame:
        return frame
    for name, definition in metrics.items():
        named, defined = frame["metric"] == name, frame["definition"] == definition
        if (named & defined).any():
            frame = frame[~named | defined]
    return frame.assign(metric_id=pd.factorize(frame["definition"])[0].astype(str))


def _choices(rows: pd.DataFrame, sign: Any) -> pd.DataFrame:
    """By configuration: the score turned so that a larger one is better, where there is a choice at equal budget.

    Options of a metric make different scores: of those with the most configurations.
    """
    parts = []
    for _, part in rows.groupby("metric"):
        cell = part["budget_cell"].to_numpy()
        parts.append(part[np.bincount(cell)[cell] >= CHOICE])
    best = max(parts, key=len, default=rows).set_index("number")
    return best.assign(merit=best["score"] * (-1 if sign is not None and sign < 0 else 1))


def _sentence(best: pd.DataFrame, metric: str, family: str) -> str:
    none = f"There is no evidence on {metric}: no earlier sweep trained several expansions of a {family} to one budget."
    if best.empty:
        return none
    cell, goal, merit = (best[name].to_numpy() for name in ("budget_cell", "target", "merit"))
    lost, luck = regret_at_1(cell, merit.astype(float), goal.astype(float)), random_regret(cell, goal.astype(float))
    if math.isnan(lost):
        return none
    gained, cells = luck - lost, len(np.unique(cell))
    verb = f"gained {100 * gained:.1f} points over" if gained >= 0 else f"was {-100 * gained:.1f} points worse than"
    return (
        f"On {len(best)} earlier configurations of a {family} ({cells} choices at equal budget), choosing by {metric} "
        f"lost {100 * lost:.1f} points of test accuracy against the best and {verb} picking at random."
    )


TEMPLATE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>mmbench: advice</title>
<style>{{ style }}</style>
</head>
<body><main>
<h1>Which expansion to choose</h1>
{{ paragraphs(about) }}
<h2>Ranking</h2>
{{ chart }}{{ table(ranking) }}
<h2>How far to trust it</h2>
{{ paragraphs(evidence) }}
{% if left_out.rows %}
<h2>Left out</h2>
{{ table(left_out) }}
{% endif %}
</main></body>
</html>
"""


def write_advice(table: pd.DataFrame, evidence: Sequence[str], about: str, folder: Path) -> tuple[Path, Path]:
    """Write advice.csv and the self-contained advice.html into `folder`; their paths."""
    csv, page = folder / "advice.csv", folder / "advice.html"
    write_table(table, csv)
    attrs = table.attrs
    scored = table[table["rank"].notna()]
    left_out = [*attrs["left_out"], *table[table["rank"].isna()].to_dict("records")]
    reasons = [[str(row[name]) for name in ("expansion", "axis", "reason")] for row in left_out]
    text = render(
        TEMPLATE,
        style=asset("report.css"),
        about=[about, *costs(table)],
        chart=Markup(_chart(scored)),
        ranking=Table([*COLUMNS.values()], [shown(row) for row in scored.to_dict("records")], running={1}),
        evidence=[*evidence, *(f"Measured: {definition}" for definition in attrs["metrics"])],
        left_out=Table(["expansion", "axis", "why"], reasons, kind="words", running={2}),
    )
    with replacing(page) as path:
        path.write_text(text, encoding="utf-8")
    return csv, page


COLUMNS = {
    "rank": "rank", "expansion": "expansion", "axis": "axis", "factor": "factor", "parameters": "parameters",
    "score": "score", "score_stderr": "+-", "decided": "against the first", "rounds": "rounds", "seconds": "spent, s",
    "train_seconds": "training, s",
}  # fmt: skip
"""What is shown of a ranking, and under which heading."""
BRIEF = {
    name: COLUMNS[name] for name in ("rank", "expansion", "parameters", "score", "score_stderr", "decided", "rounds")
}
"""What fits a terminal."""


def _cell(name: str, value: Any) -> str:
    if name == "decided":
        return "clearly behind" if value else "within noise"
    if name in ("rank", "parameters", "rounds"):
        return f"{int(value):,}"
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.3g}"
    return str(value)


def shown(row: Mapping[Any, Any], columns: Iterable[str] = COLUMNS) -> list[str]:
    """The columns of a row of the ranking as texts."""
    first = row["rank"] == 1
    return ["" if first and name == "decided" else _cell(name, row[name]) for name in columns]


def costs(table: pd.DataFrame) -> list[str]:
    """What was spent, against what training would take."""
    train = table["train_seconds"].dropna()
    spent = f"Spent {table.attrs['seconds']:.0f} seconds on {int((table['rounds'] > 0).sum())} candidates."
    if train.empty:
        return [spent]
    return [
        f"{spent} Training one of them would take about {train.median():.0f} seconds, training all "
        f"{train.sum():.0f}: the advice cost {100 * table.attrs['seconds'] / train.sum():.0f} % of that."
    ]


def _chart(scored: pd.DataFrame) -> str:
    """Scores with their errors, best first, drawn as SVG."""
    if scored.empty:
        return ""
    scores = scored["score"].to_numpy(dtype=float)
    errors = scored["score_stderr"].fillna(0).to_numpy(dtype=float)
    low, high = float((scores - errors).min()), float((scores + errors).max())
    span, line, left, width = (high - low) or 1.0, 22, 220, 460

    def x(value: float) -> float:
        return left + 10 + (width - 20) * (value - low) / span

    marks = ""
    for place, (row, score, error) in enumerate(zip(scored.to_dict("records"), scores, errors, strict=True)):
        y = line * place + line / 2 + 4
        name = escape(f"{row['expansion']} {row['axis']}")
        colour = "#999999" if row["decided"] else "#0072b2"
        marks += (
            f'<text x="{left - 6}" y="{y + 4:.0f}" text-anchor="end" font-size="13" fill="currentColor">{name}</text>'
            f'<line x1="{x(score - error):.1f}" x2="{x(score + error):.1f}" y1="{y}" y2="{y}" stroke="{colour}" '
            f'stroke-width="2"/><circle cx="{x(score):.1f}" cy="{y}" r="4" fill="{colour}"/>'
        )
    height = line * len(scores) + 30
    ends = "".join(
        f'<text x="{x(v):.0f}" y="{height - 8}" text-anchor="middle" font-size="12" fill="currentColor">{v:.3g}</text>'
        for v in (low, high)
    )
    label = "Scores with standard errors; blue may be the best, grey is clearly behind"
    return (
        f'<figure><svg role="img" aria-label="{label}" viewBox="0 0 {left + width + 20} {height}">{marks}{ends}</svg>'
        f"<figcaption>{label}.</figcaption></figure>\n"
    )
