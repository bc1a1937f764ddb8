"""What the tests of both engines share."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.fixture
def start(tmp_path):
    """Starts a sweep of the small network; what is left of the processes at the end is killed."""
    started = []

    def sweep(*arguments):
        command = [sys.executable, "-m", "mmbench", "run", "-m", *arguments]
        process = subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        started.append(process)
        return process

    yield sweep
    for process in started:
        process.kill()
        process.wait()
