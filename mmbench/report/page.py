"""The report: one self-contained HTML page, which loads nothing and runs no script but its own."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

import pandas as pd

from mmbench.records.curves import Traces
from mmbench.report import invariances, prose
from mmbench.report import tables as sections
from mmbench.report.figures.style import Drawing
from mmbench.report.gallery import gallery, legend
from mmbench.report.html import bullets, inline_svg, paragraphs
from mmbench.report.latex import write_latex
from mmbench.report.plots import looks_of
from mmbench.report.points import MOST_RUNS, Points, collect
from mmbench.report.provenance import settings_section, versions_section
from mmbench.report.terminal import correlation_table
from mmbench.report.verdict import caveats, extent, verdict
from mmbench.statistics.judge import Judgement, ranked
from mmbench.store.files import replacing

__all__ = ["correlation_table", "write_report"]


def write_report(
    frame: pd.DataFrame,
    judgement: Judgement,
    folder: Path,
    drawings: Sequence[Drawing] = (),
    traces: Traces | None = None,
) -> Path:
    """Write `folder`/report.html and correlations.tex from what `load_records`, `judge` and `draw` returned.

    The page holds its style, its data and its figures and needs no network; all text from data is escaped, and its
    content security policy lets no script run but its own. The same input gives the same bytes. Returns its path.
    """
    traces = traces or Traces()
    points = collect(frame, judgement.correlations, looks_of(frame))
    parts = [part for part in _parts(frame, judgement, drawings, traces, points) if part[2].strip()]
    script, script_hash = _script(points)
    page = Template(_asset("report.html")).substitute(
        style=_asset("report.css"),
        script_hash=script_hash,
        extent=escape(extent(frame, judgement)),
        verdict=paragraphs(verdict(frame, judgement)),
        caveats=bullets(caveats(judgement), "caveats"),
        contents="".join(f'<li><a href="#{name}">{title}</a></li>' for name, title, _ in parts),
        sections="".join(
            f'<section id="{name}" aria-labelledby="{name}-h"><h2 id="{name}-h">{title}</h2>\n{body}</section>\n'
            for name, title, body in parts
        ),
        script=script,
    )
    path = folder / "report.html"
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    write_latex(judgement.correlations, folder)
    return path


def _parts(
    frame: pd.DataFrame, judgement: Judgement, drawings: Sequence[Drawing], traces: Traces, points: Points
) -> list[tuple[str, str, str]]:
    """Name, title and content of each section, in order; one without content is left out."""
    figures = {drawing.svg.stem: inline_svg(drawing) for drawing in drawings if "scatter" not in drawing.svg.stem}

    def beside(name: str, text: str) -> str:
        return f'<div class=pair>{figures.get(name, "")}<p class="note">{text}</p></div>' if name in figures else ""

    robust = [
        ("By group", sections.groups(judgement)),
        ("Leaving one group out", sections.transfer(judgement)),
        ("One thing at a time", sections.granulated(judgement)),
        ("Seeds", sections.reliability(judgement)),
    ]
    measured = len(ranked(judgement.correlations)) > 0
    return [
        ("correlations", "Correlations", beside("overview", prose.OVERVIEW) + sections.main(judgement)),
        (
            "equal",
            "At equal budget",
            beside("equal_budget", prose.EQUAL) + sections.equal(judgement) if measured else "",
        ),
        ("scatter", "Score against gain", _scatter(points)),
        ("against", "Manifold against the others", sections.differences(judgement) if measured else ""),
        ("choice", "Choosing by a metric", beside("regret", prose.REGRET) + sections.choice(judgement)),
        ("targets", "Other targets", sections.targets(judgement)),
        ("robust", "Does it hold?", "".join(f"<h3>{t}</h3>{body}" for t, body in robust if body) if measured else ""),
        ("branches", "Branches", _branches(frame, figures)),
        ("training", "Training curves", beside("training", _training(traces))),
        ("invariances", "What leaves each metric unchanged", _invariances(judgement)),
        ("runs", "Runs", sections.failures(frame, judgement)),
        ("configuration", "Configuration", settings_section(traces)),
        ("made", "How it was made", prose.METHOD + versions_section(frame)),
    ]


def _scatter(points: Points) -> str:
    if not points.metrics:
        return "<p>No run has a score and a gain yet.</p>"
    more = "" if points.with_runs else f" There are over {MOST_RUNS:,} runs: single ones are in records.csv alone."
    keys = legend(points)
    return (
        f'<p class="note">{prose.SCATTER}{more}</p><div id="legend">{keys}</div>{prose.VIEWER}'
        f"<h3>All metrics</h3>{gallery(points)}"
    )


def _branches(frame: pd.DataFrame, figures: dict[str, str]) -> str:
    table = sections.branches(frame)
    if "branches" not in figures:
        return f'<p class="note">{prose.NO_BRANCHES}</p>{table}' if table else ""
    return f'<div class=pair>{figures["branches"]}<p class="note">{prose.BRANCHES}</p></div>{table}'


def _training(traces: Traces) -> str:
    more = f" A sample: {traces.left_out:,} stage results were not read." if traces.left_out else ""
    panels = len({(curve.dataset, curve.model) for curve in traces.curves})
    cut = f" The first 4 of {panels} pairs of data set and model." if panels > 4 else ""
    return prose.TRAINING + cut + more


def _invariances(judgement: Judgement) -> str:
    known = {row["metric"] for row in invariances.certificates()}
    names = dict.fromkeys(str(metric).split("@")[0] for metric in ranked(judgement.correlations)["metric"])
    shown = [name for name in names if name in known]
    return invariances.section(shown) if shown else ""


def _script(points: Points) -> tuple[str, str]:
    """The page's data and script, and the hash by which its policy knows the script; no script without points."""
    if not points.metrics:
        return "", "'none'"
    text = _asset("report.js")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    data = f'<script type="application/json" id="points">{points.json()}</script>'
    return f"{data}\n<script>{text}</script>", f"'sha256-{digest}'"


def _asset(name: str) -> str:
    return files("mmbench.report").joinpath("assets", name).read_text(encoding="utf-8")
