"""How the numbers were computed: a summary of the statistics, and the software versions of the runs and the report."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pandas as pd

from mmbench.report.sections.base import Results, Section
from mmbench.report.table import Table
from mmbench.store.versions import versions
from mmbench.text import count

PACKAGES = (
    *("mmbench", "torch", "torchvision", "timm", "hydra-core", "omegaconf"),
    *("numpy", "pandas", "pyarrow", "scipy", "scikit-learn", "matplotlib", "safetensors", "pydantic"),
)
RECORDED = ("device", *versions())
"""Columns in which records describe the machine that ran them."""


class Method(Section):
    """A paragraph and a table."""

    title = "Method"
    order = 130
    template = """
<p>All statistics are over configurations, not over runs: score and target are averaged over seeds, then ranked.
Configurations that share a base model are not independent; with enough base models, the interval treats each base
model as one observation. The controls (none, scratch and scratch_matched) count like any other expansion; the group
arm=expansion leaves them out. q is the p-value after Benjamini and Hochberg over the metrics under test. Given size and
base: the partial correlation given log parameters and base accuracy. The formulas and their sources are in
mmbench.statistics. The CSV files beside this page hold all tables in full; figures/ holds the figures for papers, and
correlations.tex the first table in LaTeX.</p>
<p>From {{ records }}.</p>
{% if unknown %}<p>The records of these runs hold no versions. Those below are of the machine that made this report;
the runs may be from another machine.</p>{% endif %}
{{ table(versions) }}
"""

    def content(self, results: Results) -> dict[str, Any] | None:
        """Versions that the records hold, then those of the machine that makes this report."""
        frame = results.frame
        rows = [
            ["recorded by the runs", column, ", ".join(texts)]
            for column in frame.columns
            if column in RECORDED and (texts := _distinct(frame[column]))
        ]
        here = {"Python": platform.python_version(), "platform": platform.platform(), **_installed()}
        rows += [["machine that made this report", name, text] for name, text in here.items()]
        return {
            "records": count(len(frame), "record"),
            "unknown": not versions().keys() & set(frame.columns),
            "versions": Table(["where", "what", "version"], rows, "Versions", "words", running={2}),
        }


def _distinct(column: pd.Series) -> list[str]:
    return sorted({str(value) for value in column.dropna()})


def _installed() -> dict[str, str]:
    texts = {}
    for name in PACKAGES:
        try:
            texts[name] = version(name)
        except PackageNotFoundError:
            texts[name] = "not installed"
    return texts
