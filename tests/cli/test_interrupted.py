"""Ctrl-C and killed processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from mmbench.store.files import read_json
from mmbench.store.store import Store


def start(tmp_path, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "mmbench", "run", "-m", *arguments],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # a process group of its own, which Ctrl-C reaches as a whole
    )


@pytest.mark.parametrize(
    "blow",
    [pytest.param(signal.SIGKILL, id="kill -9", marks=pytest.mark.slow), pytest.param(signal.SIGINT, id="Ctrl-C")],
)
def test_an_interrupted_sweep_goes_on_where_it_was(mmbench, tmp_path, blow):
    arguments = ["model.hidden=[5]", "training.steps=600", "expansion=zero_pad", "metric=parameters", "seed=range(5)"]
    sweep = start(tmp_path, *arguments)
    deadline = time.monotonic() + 600
    while len(list(tmp_path.glob("results/records/*.json"))) < 2:
        assert time.monotonic() < deadline and sweep.poll() is None, sweep.stdout.read()
        time.sleep(0.02)
    os.killpg(sweep.pid, blow) if blow == signal.SIGINT else sweep.send_signal(blow)
    said, _ = sweep.communicate(timeout=600)
    if blow == signal.SIGINT:
        assert sweep.returncode == 130
        assert "the same command goes on" in said.replace("\n", " ")
        assert "Traceback" not in said
    finished = {path: path.read_bytes() for path in tmp_path.glob("results/records/*.json")}
    again = mmbench("run", "-m", *arguments)
    assert again.returncode == 0, again.stderr
    assert "5 runs: 5 done" in again.stdout
    assert f"{len(finished)} of them were stored already" in again.stdout
    assert all(path.read_bytes() == content for path, content in finished.items())


def test_ctrl_c_while_the_workers_load_shows_no_stack_trace(tmp_path):
    sweep = start(tmp_path, "model=resnet", "seed=0,1")
    deadline = time.monotonic() + 600
    while not any("forkserver" in " ".join(child.cmdline()) for child in psutil.Process(sweep.pid).children()):
        assert time.monotonic() < deadline and sweep.poll() is None, sweep.stdout.read()
        time.sleep(0.05)
    time.sleep(1.5)  # torch and timm take longer to load
    os.killpg(sweep.pid, signal.SIGINT)
    said, _ = sweep.communicate(timeout=600)
    assert sweep.returncode == 130
    assert "stopped: 0 of 2 runs" in said.replace("\n", " ")
    assert "Traceback" not in said, said
    assert "KeyboardInterrupt" not in said, said


@pytest.mark.slow
def test_a_worker_that_is_killed_fails_its_own_run_only(mmbench, tmp_path):
    arguments = ["model.hidden=[5]", "training.steps=2500", "expansion=zero_pad", "metric=parameters", "seed=0,1,2"]
    sweep = start(tmp_path, *arguments, "hydra.launcher.slots=1")
    store, deadline = Store(tmp_path / "results"), time.monotonic() + 600
    while not store.running():
        assert time.monotonic() < deadline and sweep.poll() is None, sweep.stdout.read()
        time.sleep(0.02)

    mark = read_json(next((tmp_path / "results" / "running").glob("*.json")))
    psutil.Process(mark["pid"]).kill()
    said, _ = sweep.communicate(timeout=600)
    assert sweep.returncode == 1
    assert "3 runs: 2 done, 1 failed" in said, said
    assert "the worker process died" in said
    again = mmbench("run", "-m", *arguments)
    assert "3 runs: 3 done" in again.stdout, "a run whose worker died is tried again"
