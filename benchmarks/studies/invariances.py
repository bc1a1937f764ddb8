"""Measure what leaves each metric unchanged, print it, and write mmbench/report/assets/invariances.csv for the report.

    OMP_NUM_THREADS=1 python -m benchmarks.studies.invariances [METRIC ...] [--no-file | --prune]

Takes a few minutes. With metrics named, only their rows of the file are measured and replaced: a new metric needs its
own name only. `--prune` measures nothing and removes the rows of metrics that no longer exist. `weightwatcher_alpha`
needs the extra `spectra`.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from dataclasses import astuple, fields
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

import mmbench.report.sections.invariances as kept
from benchmarks.studies.invariance import Certificate, certificates
from mmbench.metrics.base import METRICS
from mmbench.paths import choices

FILE = kept.FILE
HEADER = """\
# How far each metric's score moves when the weights change and the predictions do not.
# Made by benchmarks/studies. drift: |mean of m(T w) - m(w)| / |mean of m(w)| over seeds; error: its standard
# error over them, 0 where the seed makes no difference. verdict: invariant (below 1e-6), within error (below 3 standard
# errors), changes, undefined (for the reason given).
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--missing", action="store_true", help="measure the metrics that the file does not have")
    parser.add_argument("metrics", nargs="*", help="metrics to measure; all by default")
    parser.add_argument("--no-file", action="store_true", help="print only")
    parser.add_argument("--prune", action="store_true", help="measure nothing, remove rows of metrics that are gone")
    options = parser.parse_args(arguments)
    if options.prune:
        write(old())
        return
    torch.set_num_threads(1)
    if options.missing:
        options.metrics = sorted(set(choices("metric")) - {row.metric for row in old()})
        if not options.metrics:
            return
    rows = certificates(options.metrics or None)
    Console(width=150).print(table(rows))
    if not options.no_file:
        others = [] if not options.metrics else [row for row in old() if row.metric not in options.metrics]
        write([*others, *rows])


def old() -> list[Certificate]:
    """The file's rows of the metrics that exist."""
    rows: list[dict[str, Any]] = [
        {**row, **{name: float(row[name]) if row[name] else None for name in ("drift", "error")}}
        for row in kept.certificates()
    ]
    return [Certificate(**row) for row in rows if row["metric"] in METRICS.names()]


def write(rows: list[Certificate]) -> None:
    """All rows, sorted by metric."""
    with FILE.open("w", encoding="utf-8", newline="") as file:
        file.write(HEADER)
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([field.name for field in fields(Certificate)])
        for row in sorted(rows, key=lambda row: row.metric):
            writer.writerow([cell(value) for value in astuple(row)])


def cell(value: object) -> str:
    """Numbers with three digits; what is rounding only is 0."""
    if isinstance(value, float):
        return f"{value:.3g}" if value > 1e-9 else "0"
    return "" if value is None else str(value)


def table(rows: list[Certificate]) -> Table:
    """Metrics by changes."""
    result = Table("metric", title="what leaves each metric unchanged: relative drift of the score")
    columns = list(dict.fromkeys((row.network, row.change) for row in rows))
    for network, change in columns:
        result.add_column(f"{change}\n({network})", justify="right")
    for metric in sorted({row.metric for row in rows}):
        found = {(row.network, row.change): row for row in rows if row.metric == metric}
        result.add_row(metric, *(words(found[column]) for column in columns))
    return result


def words(row: Certificate) -> str:
    """One certificate in a few letters."""
    if row.drift is None:
        return "undefined"
    error = f" +- {row.error:.1g}" if row.error and row.verdict != "invariant" else ""
    return f"{row.verdict} {row.drift:.2g}{error}"


if __name__ == "__main__":
    main()
