"""A stored sweep: its runs with every option, so that they can be recreated from the store alone.

Stored runs are not composed again. Edits to the config after a sweep's start have no effect, and a job on another
machine needs a shared store and this code, but no config.

    {"runs": {RUN_ID: label}, "configs": {RUN_ID: config}, "folder": where relative paths start,
     "jobs": [[RUN_ID, ...]]}
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mmbench.config import parse
from mmbench.errors import ConfigError, StoreError
from mmbench.run import Run
from mmbench.store.store import Store


def as_json(runs: list[Run]) -> dict[str, Any]:
    """The runs as JSON data, for `Store.write_sweep`."""
    return {
        "runs": {run.run_id: run.label for run in runs},
        "configs": {run.run_id: run.config for run in runs},
        "folder": str(Path.cwd()),
    }


def read_job(store: Store, job: str) -> list[Run]:
    """The runs of a job, recreated from the stored sweep; changes to the folder in which the sweep was started.

    Args:
        store: holds the sweep.
        job: `SWEEP:INDEX`.

    Returns:
        The runs.

    Raises:
        ConfigError: there is no such job.
        StoreError: the sweep is not in the store or cannot be used on this machine.
    """
    match = re.fullmatch(r"([0-9a-f]+):(\d+)", job)
    if not match:
        raise ConfigError(f"job = {job!r} is not allowed: must be SWEEP:INDEX, as a launcher sets it")
    sweep = store.read_sweep(match[1])
    if sweep is None:
        raise StoreError(
            f"job = {job!r}: there is no intact {store.root / 'sweeps' / match[1]}.json on this machine; the results "
            "folder must be on a file system that all machines of the cluster share"
        )
    jobs, index = sweep.get("jobs", []), int(match[2])
    if index >= len(jobs):
        raise ConfigError(f"job = {job!r} is not allowed: the sweep has {len(jobs)} jobs, counted from 0")
    enter(sweep["folder"])
    return [recreate(run_id, sweep["configs"][run_id]) for run_id in jobs[index]]


def enter(folder: str) -> None:
    """Change to the folder where a sweep was started, since its relative paths start there.

    Raises:
        StoreError: this machine cannot enter it.
    """
    try:
        os.chdir(folder)
    except OSError as error:
        raise StoreError(
            f"the sweep was started in {folder}, which this machine cannot enter ({error.strerror}); start it "
            "in a folder that all machines of the cluster share"
        ) from None


def recreate(run_id: str, config: dict[str, Any]) -> Run:
    """The run that is stored under this id. Call it in the folder where its sweep was started.

    Returns:
        The run.

    Raises:
        ConfigError: its config is no longer allowed.
        StoreError: it would now be a different run.
    """
    run, _ = parse(config)
    if run.run_id != run_id:
        raise StoreError(
            f"the run {run_id} ({run.label}) would now be a different run: its data or mmbench have changed since "
            "the sweep was started; start the sweep again"
        )
    return run
