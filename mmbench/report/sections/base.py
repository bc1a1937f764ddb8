"""The base class of the report's sections, and their input.

A section is one file of this folder with a `Section` in it; no other file has to be changed:

    class Correlations(Section):
        title = "Correlations"
        order = 10
        template = "<p>From {{ runs }} runs.</p>{{ table(rows) }}"

        def content(self, results: Results) -> dict[str, Any] | None:
            ...

`template` is Jinja. It sees what `content` returns and the macros of assets/macros.html. Text is escaped.
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import pandas as pd

from mmbench.records.curves import Traces
from mmbench.report.figures.style import Drawing
from mmbench.statistics.judge import Judgement, ranked

PACKAGE = __name__.rpartition(".")[0]


@dataclass(frozen=True)
class Results:
    """The input of a report."""

    frame: pd.DataFrame
    """One row per run, as of `load_records`."""
    judgement: Judgement
    """The tables, as of `judge`."""
    drawings: dict[str, Drawing] = field(default_factory=dict)
    """The figures by the stem of their file."""
    traces: Traces = field(default_factory=Traces)
    """Training curves and settings, as of `read_traces`."""

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The correlation of each metric with the gain over the expansions, best agreement with theory first."""
        return ranked(self.judgement.correlations)


class Section(ABC):
    """One section of the report."""

    title: ClassVar[str]
    order: ClassVar[int]
    """Sections are sorted by this number."""
    template: ClassVar[str]
    script: ClassVar[str] = ""
    """The asset that holds the section's JavaScript, if it has any."""

    @property
    def name(self) -> str:
        """The name of its file, which is also its anchor in the page."""
        return type(self).__module__.rpartition(".")[2]

    @abstractmethod
    def content(self, results: Results) -> dict[str, Any] | None:
        """What the template shows, by name; None leaves the section out of the page."""


def all_sections() -> list[Section]:
    """The sections of all files in this folder, in order."""
    folder = importlib.import_module(PACKAGE)
    modules = [importlib.import_module(f"{PACKAGE}.{file.name}") for file in pkgutil.iter_modules(folder.__path__)]
    classes = [
        kind
        for module in modules
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Section) and kind.__module__ == module.__name__
    ]
    return sorted(
        (kind() for kind in classes if kind is not Section), key=lambda section: (section.order, section.name)
    )
