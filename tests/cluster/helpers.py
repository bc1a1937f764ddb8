"""Looks into the store, and patience."""

from __future__ import annotations

import time

from mmbench.store.store import Store

SMALL = ["model=mlp", "model.hidden=[5]", "expansion=zero_pad", "metric=parameters"]
TIMES = {"metric_seconds", "expand_seconds", "train_seconds", "base_seconds"}


def records(folder, without=TIMES):
    """The records of a store, by run."""
    store = Store(folder)
    found = {run_id: store.read_record(run_id) for run_id in store.record_ids()}
    return {run_id: {k: v for k, v in record.items() if k not in without} for run_id, record in found.items()}


def wait_for(what, condition, seconds=1800, process=None):
    """Wait until the condition is true, and return what it is; fail if that takes long, or the process ends first."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        ended = process is not None and process.poll() is not None
        assert not ended, f"{what}: the sweep ended first:\n{process.stdout.read()}"
        assert time.monotonic() < deadline, f"{what}: not within {seconds} seconds"
        time.sleep(0.1)
    return found


def flat(text):
    """Output without line breaks."""
    return " ".join(text.split())
