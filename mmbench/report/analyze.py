"""Makes tables, figures and a report from the store of a results folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mmbench.errors import StoreError
from mmbench.records.curves import read_traces
from mmbench.records.frame import folders, load_records, write_records, write_table
from mmbench.report.figures.draw import draw
from mmbench.report.page import write_report
from mmbench.statistics.judge import Judgement, judge


@dataclass(frozen=True)
class Analysis:
    """The result of `analyze`, and where its files are."""

    frame: pd.DataFrame
    """One row per run, as of `load_records`."""
    correlations: pd.DataFrame
    """One row per metric, target and group, as of `correlate`."""
    judgement: Judgement
    """All tables."""
    folder: Path
    """Holds records.parquet, records.csv, correlations.csv and the other tables, report.html and figures/."""
    report: Path
    """The HTML page."""


def analyze(
    results: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    where: str | None = None,
    output: str | os.PathLike[str] | None = None,
) -> Analysis:
    """Judge every metric by the runs stored in the folder `results`, and write all of it to `results`/analysis.

    Works on any store: if it is empty, unfinished or has only failures, the report says so. Every file is replaced
    whole; the same records give the same bytes.

    Args:
        results: a folder, or several; the analysis is written to the first.
        where: which runs to analyze, a pandas query on the columns of `load_records`: `model == "vit" and budget > 2`.
        output: the folder to write to instead, as for a store that is read-only.

    Returns:
        The records, the tables and the paths of what was written.

    Raises:
        StoreError: There is no such folder, or it cannot be written to.
        ConfigError: `where` is not a valid condition.
    """
    frame = load_records(results, where)
    judgement = judge(frame)
    folder = folders(results)[0] / "analysis" if output is None else Path(output)
    try:
        folder.mkdir(parents=output is not None, exist_ok=True)
        write_records(frame, folder)
        traces = read_traces(folders(results), frame)
        grid = {"manifold_grid": traces.grid.table, "manifold_grid_choices": traces.grid.choices}
        for name, table in {**judgement.tables, **grid}.items():
            write_table(table, folder / f"{name}.csv")
        drawings = draw(frame, judgement, folder / "figures", traces)
        report = write_report(frame, judgement, folder, drawings, traces)
    except OSError as error:
        raise StoreError(
            f"cannot write the analysis to {folder}: {error.strerror or error}; name another folder with output=DIR"
        ) from error
    return Analysis(frame, judgement.correlations, judgement, folder, report)
