"""Sweeps through a real Ray on this machine, with two CPUs. `make cluster` runs them."""

from __future__ import annotations

import os
import signal

import psutil
import pytest

from tests.cluster.helpers import SMALL, flat, records, wait_for

pytest.importorskip("hydra_plugins.hydra_ray_launcher", reason="needs the extra: pip install 'mmbench[ray]'")

ON_RAY = [
    "hydra/launcher=ray",
    "+hydra.launcher.ray.init={num_cpus: 2, include_dashboard: false, log_to_driver: false}",
    "+hydra.launcher.ray.remote.num_cpus=1",
]


def workers(sweep):
    """The processes that are at a task of the sweep, oldest first."""
    children = psutil.Process(sweep.pid).children(recursive=True)
    return [child for child in children if "ray::_run_job" in " ".join(child.cmdline())]


def killed_while_training(sweep, results):
    """Kill a worker between its base model and its record."""
    wait_for("a base model", lambda: list(results.glob("stages/base/*/result.json")), process=sweep)
    os.kill(wait_for("a worker", lambda: workers(sweep), process=sweep)[0].pid, signal.SIGKILL)


def test_a_worker_that_is_killed_costs_its_job_only_and_the_same_command_goes_on(start, mmbench, tmp_path):
    runs = [*SMALL, "training.steps=8000", "seed=0,1,2", *ON_RAY]
    sweep = start(*runs, "+hydra.launcher.ray.remote.max_retries=0")
    killed_while_training(sweep, tmp_path / "results")
    said, _ = sweep.communicate(timeout=3000)
    assert sweep.returncode == 1, said
    assert "3 runs: 2 done, 1 missing" in said, "mmbench waited for the others"
    assert "1 runs of 1 jobs ended without a record: WorkerCrashedError: " in flat(said), said
    assert "Traceback" not in said

    again = mmbench("run", "-m", *runs)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "3 runs: 3 done; 2 of them were stored already" in again.stdout
    here = mmbench("run", "-m", *runs[:-3], "results=here")
    assert here.returncode == 0, here.stderr
    assert records(tmp_path / "results") == records(tmp_path / "here"), "the same bits"


def test_ray_tries_a_killed_task_again_and_it_goes_on_with_what_is_stored(start, tmp_path):
    sweep = start(*SMALL, "training.steps=8000", "seed=0,1", *ON_RAY)
    trained = tmp_path / "results" / "stages" / "base"
    killed_while_training(sweep, tmp_path / "results")
    before = {path: path.stat().st_mtime_ns for path in trained.glob("*/result.json")}
    said, _ = sweep.communicate(timeout=3000)
    assert sweep.returncode == 0, said
    assert "2 runs: 2 done" in said
    assert {path: path.stat().st_mtime_ns for path in before} == before
