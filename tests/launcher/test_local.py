"""Sweeps through the command line: signals, exit statuses, what is said."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pytest

from mmbench.config import Settings
from mmbench.launcher import display
from mmbench.launcher.local import Signals, _Stop, run_sweep, summarise
from mmbench.launcher.log import Log
from mmbench.launcher.outcome import Outcome
from mmbench.launcher.pool import Options
from mmbench.store.store import Store
from tests.forked import Forked

from .odd import gone, quick, until


@pytest.fixture
def sweep(worker_server, tmp_path):
    """Starts a sweep of runs with one slot in a fork of this process; and its store."""
    store, started = Store(tmp_path / "results"), []
    store.prepare()

    def start(*runs):
        (said := tmp_path / f"said {len(started)}").mkdir()
        settings = Settings(results=str(store.root), device="cpu")
        started.append(Forked(lambda: run_sweep(list(runs), settings, Options(slots=1)), tmp_path, said))
        return started[-1]

    yield start, store
    for process in started:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()


def flat(*texts):
    return " ".join(" ".join(texts).split())


def measuring(store, run):
    return lambda: store.running().get(run.run_id) == "score"


def test_ctrl_c_once_finishes_what_runs_and_starts_no_more(sweep, tmp_path):
    start, store = sweep
    first, second = quick(f"waits for {tmp_path / 'go on'}"), quick(seed=1, factor=1.5)
    process = start(first, second)
    until(measuring(store, first))
    os.kill(process.pid, signal.SIGINT)
    until(lambda: "finishing the run that is being computed; Ctrl-C again stops it" in flat(*process.said()))
    (tmp_path / "go on").touch()
    done = process.wait()
    assert done.returncode == 130
    assert store.record_ids() == {first.run_id}
    assert "stopped: 1 of 2 runs have their record" in flat(done.stderr)
    assert store.running() == {} and store.interrupted() == []
    assert "Traceback" not in done.stdout + done.stderr


def test_ctrl_c_twice_stops_what_runs_and_the_sweep_goes_on(sweep, tmp_path):
    start, store = sweep
    first, second = quick(), quick(f"waits for {tmp_path / 'go on'}", seed=1, factor=1.5)
    process = start(first, second)
    until(measuring(store, second))
    os.kill(process.pid, signal.SIGINT)
    until(lambda: "Ctrl-C again stops it" in flat(*process.said()))
    os.kill(process.pid, signal.SIGINT)
    done = process.wait()
    assert done.returncode == 130
    assert store.record_ids() == {first.run_id}
    assert store.running() == {} and store.interrupted() == []
    assert "the same command goes on from there" in flat(done.stderr)

    (tmp_path / "go on").touch()
    done = start(first, second).wait()
    assert done.returncode == 0, done.stderr
    assert "2 runs: 2 done; 1 of them were stored already" in flat(done.stdout)


def test_sigterm_stops_at_once(sweep, tmp_path):
    start, store = sweep
    run = quick(f"waits for {tmp_path / 'go on'}")
    process = start(run)
    until(measuring(store, run))
    os.kill(process.pid, signal.SIGTERM)
    done = process.wait()
    assert done.returncode == 143
    assert "stopped: 0 of 1 runs have their record" in flat(done.stderr)


def test_ctrl_c_in_a_terminal_reaches_all_processes_and_leaves_none(tmp_path):
    """The command itself, with its server and its workers, in a process group as a shell makes it."""
    command = [sys.executable, "-m", "mmbench", "run", "-m", "model.hidden=[5]", "expansion=zero_pad", "seed=0,1"]
    command += ["metric=parameters", "training.steps=1000000000", "hydra.launcher.slots=1"]
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=said, stderr=said, start_new_session=True)
    store = Store(tmp_path / "results")
    until(lambda: store.running() or process.poll() is not None)
    family = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)
    until(lambda: "Ctrl-C again stops it" in flat((tmp_path / "said").read_text()) or process.poll() is not None)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=600) == 130
    assert len(family) >= 2, "a worker and the server"
    assert gone(family)
    assert "stopped: 0 of 2 runs have their record" in flat((tmp_path / "said").read_text())
    assert "Traceback" not in (tmp_path / "said").read_text()


def test_what_a_limit_ends_is_told_and_ends_with_status_1(mmbench_here, worker_server):
    arguments = ["model.hidden=[5]", "expansion=zero_pad", "metric=parameters", "hydra.launcher.slots=1"]
    done = mmbench_here("run", "-m", *arguments, "training.steps=1000000000", "hydra.launcher.time_limit=0.5")
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
    outcome = Outcome()
    for step in range(1000):
        outcome.add({"status": "failed", "error": f"diverged at step {step}"})
    outcome.add({"status": "failed", "error": "diverged at step 7"})
    summarise(outcome, Settings(results=str(tmp_path)))
    said = capsys.readouterr().out
    assert said.index("failed 2 runs: diverged at step 7") < said.index("failed 1 runs")
    assert "and 990 runs for 990 other reasons; mmbench status" in said
    assert said.count("diverged") == 10


def test_what_a_sweep_prints_without_a_terminal_and_writes_to_its_log(worker_server, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(display, "LINES", 0.0)
    runs, settings = [quick(), quick("raises")], Settings(results=str(tmp_path / "results"), device="cpu")
    for status in (1, 1):  # again: the same file goes on
        with pytest.raises(SystemExit) as end:
            run_sweep(runs, settings, Options(slots=1))
        assert end.value.code == status
    assert "0/2 runs (none has a record), 1 workers busy" in capfd.readouterr().err
    (log,) = (tmp_path / "results" / "logs").iterdir()
    assert [log.stem] == [path.stem for path in (tmp_path / "results" / "sweeps").iterdir()]
    lines = [line.partition("  ")[2] for line in log.read_text().splitlines()]
    assert [line.split()[0].rstrip(":") for line in lines] == [
        *("started", "done", "failed", "ended"),
        *("started", "failed", "ended"),
    ]
    assert f"{runs[0].run_id} {runs[0].label} (" in lines[1]
    assert lines[2].endswith("s): ZeroDivisionError: seven by zero")
    assert lines[3] == "ended: 2 of 2 runs (1 done, 1 failed)"
    assert lines[4].startswith("started: 2 runs, 1 of them stored; ")


def test_a_log_that_cannot_be_written_costs_nothing(tmp_path):
    (tmp_path / "logs").write_text("a file")
    Log(tmp_path / "logs" / "x.log").write("said")
    assert (tmp_path / "logs").read_text() == "a file"
