"""What several test folders share."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def mmbench(tmp_path):
    """Runs the command line in an empty folder, in a process of its own."""

    def command(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "mmbench", *arguments],
            cwd=options.pop("cwd", tmp_path),
            capture_output=True,
            text=True,
            timeout=600,
            **options,
        )

    return command


@pytest.fixture
def mmbench_here(tmp_path, tmp_path_factory):
    """As `mmbench`, in a fork of this process (see `tests.forked`); sweeps need `worker_server`, too."""
    from mmbench.cli.main import main
    from tests.forked import Forked

    said = tmp_path_factory.mktemp("said")
    return lambda *arguments, folder="": Forked(lambda: main(list(arguments)), tmp_path / folder, said).wait()


@pytest.fixture(scope="session")
def worker_server():
    """One server of workers for all sweeps that the tests start in this process or in a fork of it."""
    from mmbench.launcher.worker import worker_context

    worker_context([])


@pytest.fixture
def in_fresh_python():
    """Runs code in a fresh interpreter and returns what it prints."""

    def run(code: str) -> str:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
