"""Tables, figures and a report from the stored results.

usage: mmbench analyze [results=DIR] [where=CONDITION] [output=DIR]

Read the store, print the correlation of every metric with the gain, and write DIR/analysis: records.parquet,
records.csv, correlations.csv and the other tables, report.html and the figures. The sweep may be unfinished or have
failed runs.

  mmbench analyze where="model == 'vit' and budget > 2"   some of the runs, by columns of records.csv
  mmbench analyze results=[first,second]                  several stores together; writes to first/analysis
  mmbench analyze results=theirs output=mine              a store that you may not write to; writes to mine
  mmbench analyze tracker=wandb                           also log the analysis to Weights & Biases
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from rich.markup import escape

from mmbench import console, text
from mmbench.cli.compose import composed, own_keys, stores_of
from mmbench.errors import ConfigError
from mmbench.store.store import VERSION
from mmbench.store.versions import PACKAGES, is_newer
from mmbench.tracking.options import logging, tracker_of

LONGER = 5
"""Logging an analysis, with all its tables and files, may take this many times tracker.time_limit."""


def command(arguments: list[str]) -> None:
    """Analyze the stores; print the correlations and the path of the report."""
    # The condition is not parsed by Hydra, whose grammar reserves many of its characters: it needs no quotes but the
    # shell's.
    own, rest = own_keys(arguments, "where", "output")
    config = composed(rest)
    stores, tracker = stores_of(config), logging(tracker_of(config))
    if own.get("output") == "":
        raise ConfigError("output = '' is not a folder; name one, or leave it out")
    output = Path(own["output"]).expanduser() if "output" in own else None
    from mmbench.report.analyze import analyze
    from mmbench.report.terminal import correlation_table

    with console.err.status("reading the store, correlating, drawing"):
        analysis = analyze(stores, own.get("where"), output)
    counts = analysis.frame["status"].value_counts()
    console.out.print(correlation_table(analysis.correlations, width=console.out.width))
    console.say(f"{len(analysis.frame)} runs: {', '.join(f'{n} {status}' for status, n in counts.items()) or 'none'}.")
    warn_of_gaps(analysis.frame)
    for sentence in analysis.judgement.remarks:
        console.warn(sentence)
    console.say(f"Report: [bold]{escape(str(analysis.report))}[/]")
    if tracker:
        _log(analysis, stores[0].absolute(), tracker)


def warn_of_gaps(frame: Any) -> None:
    """Warn about records that are left out or averaged."""
    from mmbench.statistics.configurations import mixed

    attrs = frame.attrs
    if attrs["filtered"]:
        console.warn(f"{attrs['filtered']} runs are left out by where={attrs['where']}")
    for path in attrs["damaged"]:
        console.warn(f"{path} is damaged and was left out; run its sweep again")
    if older := attrs["other_versions"]:
        versions = ", ".join(sorted({record["version"] for record in older}))
        newer = any(is_newer(int(v["version"]), VERSION) for v in older if v["version"].isdigit())
        console.warn(
            f"{len(older)} records of version {versions} of the store are left out, such as {older[0]['path']}; "
            + ("update mmbench to read them" if newer else "run their sweep again")
        )
    if attrs["superseded"]:
        console.warn(
            f"{text.count(attrs['superseded'], 'run')} that did not succeed left out: the data have changed since, and "
            "the sweep was started again"
        )
    for package in PACKAGES:
        column = f"{package}_version"
        counts = frame[column].value_counts() if column in frame else {}
        if len(counts) > 1:
            found = text.listed(f"{version} ({text.count(n, 'run')})" for version, n in sorted(counts.items()))
            console.warn(f"runs of several versions of {package} are pooled: {found}; where= selects by {column}")
    for metric in mixed(frame):
        console.warn(f"{metric} has several scores for one configuration and seed; they are averaged")


def _log(analysis: Any, root: Path, tracker: Any) -> None:
    """Log an analysis to W&B, and print where it is."""
    from mmbench.tracking.analysis import content_of, log_analysis, tables_of
    from mmbench.tracking.ledger import Ledger
    from mmbench.tracking.worker import Worker

    patient = tracker.model_copy(update={"time_limit": LONGER * tracker.time_limit})
    worker = Worker(root, patient, console.warn, "analyze")
    try:
        with console.err.status("logging to W&B"):
            logged = worker.do(log_analysis, content_of(analysis, tracker.tags), tables_of(analysis))
    except Exception as error:
        console.warn(f"the analysis is not logged to W&B ({type(error).__name__}: {error}); it is in {analysis.folder}")
        return
    finally:
        worker.stop()
    if logged is not None:
        places = {"stored": "logged before, nothing has changed", "online": logged.url or "online"}
        offline = f"offline; wandb sync {shlex.quote(str(Ledger(root, tracker).files))} uploads it"
        console.say(f"W&B: {escape(places.get(logged.where, offline))}")
