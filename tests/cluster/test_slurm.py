"""Sweeps as job arrays of a real Slurm."""

from __future__ import annotations

import time

import pytest

from cluster.tools import contents, ended, marks, said, until
from mmbench.models.mlp import MLP

pytestmark = pytest.mark.usefixtures("slurm")
SLURM = [
    "hydra/launcher=submitit_slurm",
    "hydra.launcher.mem_gb=2",
    "hydra.launcher.timeout_min=10",
    "hydra.launcher.submitit_folder=.submitit/%j",
]
TINY = ["model.hidden=[5]", "expansion=zero_pad", "metric=parameters,random"]
LONG = ["model.hidden=[5]", "expansion=zero_pad", "metric=parameters", "seed=0,1,2"]


def tasks(state):
    """Ids (array and task) of this user's jobs in a state, oldest first."""
    return said("squeue", "--noheader", "--array", f"--states={state}", "--format=%F_%K", "--sort=i").split()


def steps_for(seconds):
    """Training steps of the smallest MLP that take about so long here."""
    import torch

    from mmbench.data.digits import Digits
    from mmbench.training import SGD, train

    torch.set_num_threads(1)
    data = Digits().load()
    recipe = SGD(steps=2000)
    start = time.process_time()  # not what other processes take
    train(MLP(hidden=(5,)).build(data.shape), data.train, recipe, torch.Generator().manual_seed(0))
    return round(seconds * 2000 / (time.process_time() - start))


def test_an_array_of_jobs_makes_what_one_machine_makes(sweep, tmp_path):
    arguments = [*TINY, "training.steps=200", "seed=0,1"]
    status, output = ended(sweep(*arguments, *SLURM))
    assert status == 0, output
    assert "Launching 4 runs in 2 jobs" in output
    assert "4 runs: 4 done; 0 of them were stored already" in output
    assert ended(sweep(*arguments, folder="alone"))[0] == 0
    assert contents(tmp_path / "here") == contents(tmp_path / "alone")
    status, output = ended(sweep(*arguments, *SLURM))
    assert (status, "Nothing to launch" in output) == (0, True), output


def test_a_cancelled_job_costs_its_runs_a_requeued_one_nothing(sweep, tmp_path):
    arguments = [*LONG, f"training.steps={steps_for(15)}", *SLURM]
    first = sweep(*arguments)
    cancelled, requeued = until(lambda: len(found := tasks("RUNNING")) == 2 and found, first)
    until(lambda: len(marks(tmp_path / "here")) == 2, first)
    said("scancel", cancelled)
    said("scontrol", "requeue", requeued)
    status, output = ended(first)
    assert status == 1, output
    assert "1 runs of 1 jobs ended without a record" in output
    assert "2 runs: 2 done" in output
    assert "Traceback" not in output
    finished, _ = contents(tmp_path / "here")
    status, output = ended(sweep(*arguments))
    assert status == 0, output
    assert "Launching 1 runs in 1 jobs" in output
    assert "3 runs: 3 done; 2 of them were stored already" in output
    assert finished.items() <= contents(tmp_path / "here")[0].items()


def test_a_job_that_comes_to_its_time_limit_goes_on_with_what_is_stored(sweep, tmp_path):
    """Slurm's shortest limit is a minute, and its warning comes half a minute early: after one of two trainings."""
    arguments = [*LONG[:-1], f"training.steps={steps_for(12)}", *SLURM, "hydra.launcher.timeout_min=1"]
    arguments += ["hydra.launcher.signal_delay_s=15", "hydra.launcher.max_num_timeout=10"]
    process = sweep(*arguments)
    status, output = ended(process)
    assert status == 0, output
    assert "1 runs: 1 done" in output
    logs = "".join(path.read_text() for path in (tmp_path / "here" / ".submitit").rglob("*_log.*"))
    assert "DUE TO JOB REQUEUE" in logs, logs[-2000:]


def test_a_job_that_is_too_long_for_its_limit_costs_its_runs_and_says_so(sweep, tmp_path):
    arguments = [*LONG[:-1], f"training.steps={steps_for(90)}", *SLURM, "hydra.launcher.timeout_min=1"]
    arguments += ["hydra.launcher.signal_delay_s=15", "hydra.launcher.max_num_timeout=0"]
    status, output = ended(sweep(*arguments))
    assert status == 1, output
    assert "1 runs of 1 jobs ended without a record: UncompletedJobError" in output
    assert "timed-out too many times" in output
    assert contents(tmp_path / "here")[0] == {}, "the end of a job's time is no failure of its run"


def test_ctrl_c_leaves_the_jobs_to_slurm(sweep, tmp_path):
    import os
    import signal

    arguments = [*LONG[:-1], f"training.steps={steps_for(5)}", *SLURM]
    first = sweep(*arguments)
    until(lambda: marks(tmp_path / "here"), first)
    os.killpg(first.pid, signal.SIGINT)
    status, output = ended(first)
    assert status == 130, output
    assert "the jobs go on in Slurm" in output
    assert "Traceback" not in output
    until(lambda: contents(tmp_path / "here")[0])
    status, output = ended(sweep(*arguments))
    assert (status, "Nothing to launch" in output) == (0, True), output
