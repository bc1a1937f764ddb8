"""What the tests on clusters share."""

from __future__ import annotations

import importlib.util
import subprocess
import time
from pathlib import Path

from mmbench.files import read_json

TIMES = ("seconds", "base_seconds", "metric_seconds", "train_seconds", "expand_seconds")


def missing(*modules):
    """The first of the modules that cannot be imported."""
    return next((module for module in modules if importlib.util.find_spec(module) is None), None)


def said(*command):
    """What a command prints."""
    return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout


def until(condition, process=None, seconds=180):
    """Wait for something, while the process lives."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if process is not None and process.poll() is not None:
            raise AssertionError(f"it has ended: {process.stdout.read()}")
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.2)
    return found


def ended(process, seconds=400):
    """Status and output of a sweep that comes to its end; lines are joined."""
    output, _ = process.communicate(timeout=seconds)
    return process.returncode, " ".join(output.split())


def marks(folder: Path):
    """Run id and stage of what is at work."""
    found = {path.stem: read_json(path) for path in (folder / "results" / "running").glob("*.json")}
    return {run_id: mark["stage"] for run_id, mark in found.items() if mark}


def contents(folder: Path):
    """Records and checksums of all weights of a store, without what was timed."""
    records = {path.stem: read_json(path) for path in (folder / "results" / "records").glob("*.json")}
    plain = {run_id: {k: v for k, v in row.items() if k not in TIMES} for run_id, row in records.items()}
    stages = (folder / "results" / "stages").glob("*/*/result.json")
    return plain, {path.parent.name: read_json(path)["files"] for path in stages}
