"""Sweeps on a real Slurm and a real Ray, where there is one: `make cluster` installs and starts both."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from cluster.tools import missing, said


@pytest.fixture(scope="session")
def slurm():
    if module := missing("submitit"):
        pytest.skip(f"{module} is not installed: pip install 'mmbench[slurm]'")
    if not shutil.which("sinfo") or "idle" not in said("sinfo", "--noheader", "--format=%t"):
        pytest.skip("no Slurm is up: tests/cluster/start_slurm.sh starts one")


@pytest.fixture(scope="session")
def ray():
    if module := missing("ray"):
        pytest.skip(f"{module} is not installed: pip install 'mmbench[ray]'")


@pytest.fixture
def sweep(tmp_path):
    """Start `mmbench run -m` in a folder, and leave no process behind."""
    started = []

    def start(*arguments, folder="here"):
        (tmp_path / folder).mkdir(exist_ok=True)
        process = subprocess.Popen(
            [sys.executable, "-m", "mmbench", "run", "-m", *arguments],
            cwd=tmp_path / folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
