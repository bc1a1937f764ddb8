"""Sweeps through a real Slurm: tests/cluster/start_slurm.sh starts one on this machine. `make cluster` runs them."""

from __future__ import annotations

import shutil
import signal
import subprocess

import pytest

from tests.cluster.helpers import SMALL, flat, records, wait_for


def slurm(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def is_up():
    done = shutil.which("sinfo") and subprocess.run(["sinfo", "-h", "-o", "%t"], capture_output=True, text=True)
    return bool(done) and done.returncode == 0 and done.stdout.split() != []


pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="needs the extra: pip install 'mmbench[slurm]'")
if not is_up():
    pytest.skip("needs a running Slurm: tests/cluster/start_slurm.sh", allow_module_level=True)

ON_SLURM = ["hydra/launcher=submitit_slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=1"]


@pytest.fixture
def named(tmp_path):
    """A name of this test's own for its jobs; what is left of them at the end is cancelled."""
    name = f"mmbench-{tmp_path.name}"
    yield name
    subprocess.run(["scancel", "--name", name], check=False)


def queue(name, state=""):
    """Ids of the jobs in the queue, an array's tasks apart."""
    only = ["-t", state] if state else []
    return sorted(slurm("squeue", "-h", "-r", "-o", "%i", "-n", name, *only).split())


def test_submit_disconnect_edit_come_back_collect(start, mmbench, tmp_path, named):
    (tmp_path / "sweeps").mkdir()
    mine = tmp_path / "sweeps" / "mine.yaml"
    content = "# @package _global_\ntraining:\n  steps: 50\nhydra:\n  sweeper:\n    params:\n      seed: 3,4\n"
    mine.write_text(content)
    own = [*SMALL, "-cd", ".", "sweeps=mine"]
    launcher = [*ON_SLURM, f"hydra.launcher.name={named}", "+hydra.launcher.additional_parameters.hold=true"]
    sweep = start(*own, *launcher)
    wait_for("an array of two jobs", lambda: len(queue(named)) == 2, process=sweep)
    sweep.send_signal(signal.SIGINT)
    said, _ = sweep.communicate(timeout=600)
    assert sweep.returncode == 130
    assert "no longer waiting: 0 of 2 runs have their record, and the jobs go on in Slurm" in flat(said)
    assert "Traceback" not in said

    jobs = queue(named)
    assert len(jobs) == 2, "they are still there"
    mine.write_text("no: [yaml")
    slurm("scontrol", "release", jobs[0].partition("_")[0])
    wait_for("their end", lambda: not queue(named))
    assert sorted(record["seed"] for record in records(tmp_path / "results").values()) == [3, 4]

    mine.write_text(content)
    collected = mmbench("run", "-m", *own, *launcher)
    assert collected.returncode == 0, collected.stderr
    assert "Nothing to launch" in collected.stdout
    assert "2 runs: 2 done; 2 of them were stored already" in collected.stdout
    here = mmbench("run", "-m", *SMALL, "training.steps=50", "seed=3,4", "results=here")
    assert here.returncode == 0, here.stderr
    assert records(tmp_path / "results") == records(tmp_path / "here"), "the same bits"
    assert not list((tmp_path / "results").rglob("*.pkl")), "nothing in the store needs unpickling"


def test_one_job_is_cancelled_one_requeued_one_left_alone(start, mmbench, tmp_path, named):
    runs = [*SMALL, "training.steps=8000", "seed=0,1,2", *ON_SLURM, f"hydra.launcher.name={named}"]
    sweep = start(*runs)
    trained = tmp_path / "results" / "stages" / "base"
    done = wait_for("a base model", lambda: list(trained.glob("*/result.json")), process=sweep)
    before = {path: path.stat().st_mtime_ns for path in done}
    first, second = wait_for("two jobs at work", lambda: queue(named, "RUNNING")[:2], process=sweep)
    slurm("scontrol", "requeue", first)
    slurm("scancel", second)
    said, _ = sweep.communicate(timeout=3000)
    assert sweep.returncode == 1, said
    assert "3 runs: 2 done, 1 missing" in said, said
    assert "1 runs of 1 jobs ended without a record: UncompletedJobError: Job " in flat(said)
    assert "CANCELLED" in said
    assert "Traceback" not in said
    assert not queue(named), "mmbench waited for the others"
    state = slurm("sacct", "-D", "-n", "-X", "-P", "-o", "JobID,State", "--name", named)
    assert f"{first}|REQUEUED" in state and f"{first}|COMPLETED" in state
    assert {path: path.stat().st_mtime_ns for path in before} == before, "what was stored was not computed again"

    again = mmbench("run", "-m", *runs)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "3 runs: 3 done; 2 of them were stored already" in again.stdout
    assert len(list(trained.glob("*/result.json"))) == 3


def test_a_job_that_slurm_interrupts_goes_on_in_the_queue_or_is_told(start, tmp_path, named):
    """One gets the signal of its time limit between two of its runs; one is too long for its limit of a minute."""
    scores = ["metric=loss_after_k_steps", f"metric.steps={','.join(str(8000 - k) for k in range(8))}"]
    goes_on = start(
        *SMALL[:3], *scores, "training.steps=8000", *ON_SLURM, "results=goes_on", f"hydra.launcher.name={named}"
    )
    too_long = start(
        *SMALL, "training.steps=100000000", *ON_SLURM, f"hydra.launcher.name={named}-long", "results=too_long",
        "hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=1", "hydra.launcher.max_num_timeout=0",
    )  # fmt: skip
    wait_for("a record", lambda: records(tmp_path / "goes_on"), process=goes_on)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "goes_on" / "stages").glob("*/*/result.json")}
    slurm("scancel", "--signal=USR2", *queue(named, "RUNNING"))
    said, _ = goes_on.communicate(timeout=3000)
    assert goes_on.returncode == 0, said
    assert "8 runs: 8 done" in said
    states = slurm("sacct", "-D", "-n", "-X", "-P", "-o", "State", "--name", named).split()
    assert states.count("REQUEUED") >= 1, states
    assert {path: path.stat().st_mtime_ns for path in before} == before, "what was stored was not computed again"

    said, _ = too_long.communicate(timeout=3000)
    assert too_long.returncode == 1
    assert "1 runs of 1 jobs ended without a record: UncompletedJobError: Job not requeued because: timed-out" in flat(
        said
    )
    assert records(tmp_path / "too_long") == {}, "the end of a job's time is no failure of its run"
