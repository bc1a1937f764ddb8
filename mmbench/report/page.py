"""The report: one self-contained HTML page, which loads nothing and runs only its own scripts."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mmbench.records.curves import Traces
from mmbench.report.figures.style import Drawing
from mmbench.report.latex import write_latex
from mmbench.report.sections.base import Results, all_sections
from mmbench.report.template import ENVIRONMENT, asset, render
from mmbench.report.verdict import best_strategy, extent, verdict
from mmbench.statistics.judge import Judgement
from mmbench.store.files import replacing


def write_report(
    frame: pd.DataFrame,
    judgement: Judgement,
    folder: Path,
    drawings: Sequence[Drawing] = (),
    traces: Traces | None = None,
) -> Path:
    """Write `folder`/report.html and `folder`/correlations.tex.

    The page holds its style, its data and its figures and needs no network. All text from data is escaped, and its
    content security policy allows no script but its own. The same input gives the same bytes.

    Args:
        frame: one row per run, as of `load_records`.
        judgement: the tables, as of `judge`.
        folder: an existing folder.
        drawings: the figures, as of `draw`. A figure that is missing is left out, with the text beside it.
        traces: training curves and settings, as of `read_traces`.

    Returns:
        The path of the page.

    Raises:
        OSError: The folder cannot be written to.
    """
    results = Results(frame, judgement, {drawing.svg.stem: drawing for drawing in drawings}, traces or Traces())
    shown, scripts = [], []
    for section in all_sections():
        content = section.content(results)
        if content is None:
            continue
        html = render(section.template, **content)
        shown.append({"name": section.name, "title": section.title, "html": html})
        if section.script:
            scripts.append(asset(section.script))
    page = ENVIRONMENT.get_template("page.html").render(
        style=asset("report.css"),
        policy=" ".join(_hash(script) for script in scripts) or "'none'",
        extent=extent(frame, judgement),
        strategy=best_strategy(judgement.strategies),
        verdict=verdict(frame, judgement),
        caveats=judgement.remarks,
        sections=shown,
        scripts=scripts,
    )
    path = folder / "report.html"
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    write_latex(judgement.correlations, folder)
    return path


def _hash(script: str) -> str:
    """A script's hash, which the page's content security policy allows."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
