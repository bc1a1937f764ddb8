"""Sweeps as tasks of a real Ray, on this machine."""

from __future__ import annotations

import psutil
import pytest

from cluster.tools import contents, ended, marks, until

pytestmark = pytest.mark.usefixtures("ray")
RAY = ["sweeps=ray", "+hydra.launcher.ray.init.num_cpus=2"]
SMALL = ["model.hidden=[5]", "expansion=zero_pad", "metric=parameters"]


def workers(process):
    """Ray's processes that are at a job of this sweep."""
    return [
        child for child in psutil.Process(process.pid).children(recursive=True) if "ray::" in " ".join(_line(child))
    ]


def _line(process):
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_tasks_make_what_one_machine_makes(sweep, tmp_path):
    status, output = ended(sweep(*RAY, *SMALL, "seed=0,1"))
    assert status == 0, output
    assert "2 runs: 2 done; 0 of them were stored already" in output
    assert ended(sweep(*RAY, *SMALL, "seed=0,1", "hydra/launcher=local", folder="alone"))[0] == 0
    assert contents(tmp_path / "here") == contents(tmp_path / "alone")


def test_the_task_of_a_killed_worker_goes_on_elsewhere(sweep, tmp_path):
    process = sweep(*RAY, *SMALL, "seed=0,1", "training.steps=20000")
    until(lambda: marks(tmp_path / "here"), process)
    busy = until(lambda: [worker for worker in workers(process) if "_run_job" in " ".join(_line(worker))], process)
    busy[0].kill()
    status, output = ended(process)
    assert status == 0, output
    assert "2 runs: 2 done" in output
