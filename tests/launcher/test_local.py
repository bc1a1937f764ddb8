"""Sweeps through the command line: signals, exit statuses, what is said."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from mmbench.launcher.local import Signals, _Stop, summarise
from mmbench.launcher.outcome import Outcome
from mmbench.store.store import Store

from .odd import gone

SLOW = ["model.hidden=[5]", "expansion=zero_pad", "metric=parameters,random", "seed=0,1", "hydra.launcher.slots=1"]
"""Four runs; 1,500 steps take a second or so."""


class Sweep:
    """A sweep under way, in a process group of its own, which Ctrl-C reaches as a whole."""

    def __init__(self, folder, *arguments):
        command = [sys.executable, "-m", "mmbench", "run", "-m", *SLOW, *arguments]
        self.process = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        self.store = Store(folder / "results")

    def wait_for(self, condition):
        deadline = time.monotonic() + 120
        while not condition():
            assert time.monotonic() < deadline and self.process.poll() is None, self.process.communicate()[0]
            time.sleep(0.02)

    def blow(self, number):
        os.killpg(self.process.pid, number)

    def end(self):
        """The exit status and what was said, in one line; nothing that it started is left."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        said = self.process.communicate(timeout=90)[0]
        assert gone(family)
        assert "Traceback" not in said, said
        return self.process.returncode, " ".join(said.split())


def training(sweep):
    return lambda: "trained" in sweep.store.running().values()


def test_ctrl_c_once_finishes_what_runs_and_twice_stops_it_and_the_sweep_goes_on(mmbench, tmp_path):
    sweep = Sweep(tmp_path, "training.steps=1500")
    sweep.wait_for(training(sweep))
    sweep.blow(signal.SIGINT)
    status, said = sweep.end()
    assert status == 130
    assert "finishing the run that is being computed; Ctrl-C again stops it" in said
    finished = len(sweep.store.record_ids())
    assert finished == 1
    assert f"stopped: {finished} of 4 runs have their record" in said
    assert sweep.store.interrupted() == []

    sweep = Sweep(tmp_path, "training.steps=1500")
    sweep.wait_for(lambda: sweep.store.running())
    sweep.wait_for(training(sweep))
    sweep.blow(signal.SIGINT)
    time.sleep(0.3)
    began = time.monotonic()
    sweep.blow(signal.SIGINT)
    status, said = sweep.end()
    assert time.monotonic() - began < 6
    assert status == 130
    assert len(sweep.store.record_ids()) < 4
    assert sweep.store.running() == {} and sweep.store.interrupted() == []
    assert "the same command goes on from there" in said

    done = mmbench("run", "-m", *SLOW, "training.steps=1500")
    assert done.returncode == 0, done.stderr
    assert "4 runs: 4 done" in done.stdout


def test_sigterm_stops_at_once(tmp_path):
    sweep = Sweep(tmp_path, "training.steps=100000")
    sweep.wait_for(lambda: sweep.store.running())
    began = time.monotonic()
    sweep.process.terminate()  # the launcher alone, as a supervisor does it
    status, said = sweep.end()
    assert status == 143
    assert time.monotonic() - began < 8
    assert "stopped: 0 of 4 runs have their record" in said


def test_what_a_limit_ends_is_told_and_ends_with_status_1(mmbench):
    arguments = ["training.steps=100000", "hydra.launcher.time_limit=0.5", "metric=parameters", "seed=0"]
    done = mmbench("run", "-m", *SLOW, *arguments)
    assert done.returncode == 1
    said = "training its base model: it took longer than hydra.launcher.time_limit = 0.5 s"
    assert f"failed 1 runs: {said}" in done.stdout
    assert f"failed: {said}" in done.stderr, "as soon as it happens"
    assert "1 runs: 1 failed" in done.stdout


# -- in this process ---------------------------------------------------------------------------------------------------


class Pool:
    """What signals steer."""

    stopping, slots = None, ()


@pytest.mark.parametrize(
    ("numbers", "raises", "status"),
    [
        ([signal.SIGINT], False, signal.SIGINT),
        ([signal.SIGINT, signal.SIGINT], True, signal.SIGINT),
        ([signal.SIGTERM], True, signal.SIGTERM),
        ([signal.SIGINT, signal.SIGTERM], True, signal.SIGTERM),
    ],
    ids=["Ctrl-C", "Ctrl-C twice", "SIGTERM", "Ctrl-C, then SIGTERM"],
)
def test_signals(numbers, raises, status):
    before = signal.getsignal(signal.SIGINT)
    stopped, pool = False, Pool()
    signals = Signals(pool)
    try:
        with signals:
            for number in numbers:
                signal.raise_signal(number)
    except _Stop:
        stopped = True
    assert stopped == raises
    assert signals.received == status
    if numbers[0] == signal.SIGINT:
        assert pool.stopping == "it was interrupted"
    assert signal.getsignal(signal.SIGINT) == before


def test_a_summary_of_a_thousand_reasons_stays_short(tmp_path, capsys):
    from mmbench.config import Settings

    outcome = Outcome()
    for step in range(1000):
        outcome.add({"status": "failed", "error": f"diverged at step {step}"})
    outcome.add({"status": "failed", "error": "diverged at step 7"})
    summarise(outcome, Settings(results=str(tmp_path)))
    said = capsys.readouterr().out
    assert said.index("failed 2 runs: diverged at step 7") < said.index("failed 1 runs")
    assert "and 990 runs for 990 other reasons; mmbench status" in said
    assert said.count("diverged") == 10
