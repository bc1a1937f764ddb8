"""How the numbers were made: the statistics in short, and the versions of what ran and what analysed."""

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

    title = "How it was made"
    order = 130
    template = """
<p>The unit of all statistics is the configuration, not the run: score and target are averaged over seeds, then ranked.
Configurations that share a base model are not independent; with enough base models, the interval treats each base
model as one observation. The controls (none, scratch and scratch_matched) count like any other expansion; the group
arm=expansion leaves them out. q is the p-value after Benjamini and Hochberg over the metrics under test. Given size and
base: the partial correlation given log parameters and base accuracy. The formulas and their sources are in
mmbench.statistics. All tables in full are the CSV files beside this page; the figures, for papers, are in figures/; the
first table in LaTeX is correlations.tex.</p>
<p>From {{ records }}.</p>
{% if unknown %}<p>The records of these runs hold no versions. Those below are of the machine that made this report,
which may not be the one that ran them.</p>{% endif %}
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
