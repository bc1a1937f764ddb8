"""From the store of a results folder to tables, figures and a report. Imports no torch; prints nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

    import pandas as pd


@dataclass(frozen=True)
class Analysis:
    """What `analyze` found and where it wrote it."""

    frame: pd.DataFrame
    """One row per run, as of `load_records`."""
    correlations: pd.DataFrame
    """One row per metric, target and group, as of `correlate`."""
    folder: Path
    """Holds records.parquet, records.csv, correlations.csv, report.html and figures/."""
    report: Path
    """The HTML page."""


def analyze(results: str | os.PathLike[str]) -> Analysis:
    """Judge every metric by the runs stored in the folder `results`, and write all of it to `results`/analysis.

    Works on any store: an empty one and one with nothing but failures make a report that says so. Every file is
    replaced whole; the same records give the same bytes.

    Raises:
        StoreError: there is no such folder, or it cannot be written to.
    """
    from mmbench.analysis.frame import load_records, replacing, write_records
    from mmbench.analysis.plots import draw
    from mmbench.analysis.report import write_report
    from mmbench.analysis.statistics import correlate
    from mmbench.errors import StoreError

    frame = load_records(results)
    correlations = correlate(frame)
    folder = Path(results) / "analysis"
    try:
        folder.mkdir(exist_ok=True)
        write_records(frame, folder)
        with replacing(folder / "correlations.csv") as path:
            correlations.to_csv(path, index=False)
        report = write_report(frame, correlations, folder, draw(frame, correlations, folder / "figures"))
    except OSError as error:
        raise StoreError(f"cannot write the analysis to {folder}: {error.strerror or error}") from error
    return Analysis(frame, correlations, folder, report)
