"""The real client against a server on loopback that answers, refuses, is silent or is not there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import psutil
import pytest

from mmbench.cli.track import track
from mmbench.config import Settings
from mmbench.launcher.cluster import JobLoader
from mmbench.store.store import Store
from mmbench.tracking.client import UploadError, log
from mmbench.tracking.content import Content
from mmbench.tracking.follow import following
from mmbench.tracking.ledger import Ledger
from mmbench.tracking.options import NoTracker
from mmbench.tracking.worker import FAILURES, Worker
from tests.tracking.conftest import RUNS, offline, online, read
from tests.tracking.server import Server
from tests.tracking.tasks import dies, hangs

SMALL = Content(
    "0123456789abcdef", "a model", "train", ["mlp"], {"model": "mlp"}, {"gain": 0.5}, [{"step": 1.0, "loss/base": 2.0}]
)


@pytest.fixture
def fresh():
    """A client that reads the environment anew, in this process."""
    import wandb

    wandb.teardown()
    yield
    wandb.teardown()


def fault(what, status):
    return lambda asked: status if asked == what else None


def test_a_sweep_is_followed_online_and_resumed_without_repeats(results, on, capsys):
    with Server() as server:
        on(server)
        with following(Store(results), RUNS, online(), "a" * 16) as follower:
            pass
        assert follower.counts == {"online": 4}
        ledger = Ledger(results, online())
        assert len(server.runs) == 4
        for run in server.runs.values():
            assert len(run.history) == 5
            assert {"score/parameters", "score/random", "gain"} <= run.summary.keys()
            assert run.exit_code == 0
            assert run.upserts[0]["groupName"] == "a" * 16
        assert not list(ledger.files.glob("run-*")), "what has arrived need not be kept"
        asked = server.asked.copy()
        with following(Store(results), RUNS, online(), "b" * 16) as follower:
            pass
        assert follower.counts == {"stored": 4}
        assert server.asked["graphql"] == asked["graphql"]
    assert "cannot be reached" not in capsys.readouterr().err


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize(
    ("what", "status", "said"),
    [
        ("graphql", 401, "401"),
        ("graphql", 429, "429"),
        ("graphql", 500, "500"),
        ("graphql", 30.0, ""),
        ("file_stream", 401, "401"),
        ("file_stream", 30.0, ""),
        ("upload", 401, "401"),
    ],
    ids=lambda value: str(value),
)
def test_a_refusal_is_an_error_in_time_and_is_not_written_down(tmp_path, on, what, status, said):
    ledger = Ledger(tmp_path, online())
    with Server(fault(what, status)) as server:
        on(server)
        began = time.monotonic()
        with pytest.raises((UploadError, TimeoutError)) as raised:
            log(replace(SMALL, id=f"{what}{status}"), online(time_limit=6), "online", ledger, None)
        assert time.monotonic() - began < 100, "by itself, the client tries for much longer"
    assert said in str(raised.value)
    assert server.asked[what]
    assert ledger.count() == 0
    assert not ledger.read(f"{what}{status}")


@pytest.mark.parametrize(
    ("faulty", "reason"),
    [(fault("file_stream", 401), "401"), (fault("graphql", 30.0), ""), (None, "")],
    ids=["refused while it uploads", "silent", "not there"],
)
def test_a_sweep_goes_on_offline_after_one_warning_and_is_logged_when_all_is_well(results, on, capsys, faulty, reason):
    tracker = online(time_limit=30)
    ledger = Ledger(results, tracker)
    with Server(faulty) as server:
        on(server)
        if faulty is None:
            server.__exit__()
        with following(Store(results), RUNS, tracker, "a" * 16) as follower:
            pass
    said = capsys.readouterr()
    assert follower.counts == {"offline": 4}
    assert said.err.count("note:") == 1, said.err
    assert "W&B cannot be reached" in said.err
    assert reason in said.err
    assert "wandb sync" in said.out
    folders = list(ledger.files.glob("offline-run-*"))
    assert len(folders) == 4
    assert not list(ledger.files.glob("run-*")), "no half upload that would be uploaded, too"
    if reason:
        assert read(folders[0])["summary"]["gain"] is not None
        with Server() as server:
            on(server)
            assert track(results, tracker) == {"online": 5}, "the fifth diverged, and was no part of the sweep"
            assert len(server.runs) == 5
        assert not list(ledger.files.glob("offline-run-*"))


def test_without_a_key_it_is_offline(results, capsys):
    assert track(results, online()) == {"offline": 5}
    assert "API key" in capsys.readouterr().err


def test_a_command_that_is_killed_while_it_logs_is_taken_up_by_the_next(results, on):
    with Server(fault("file_stream", 600.0)) as server:
        on(server)
        command = [sys.executable, "-m", "mmbench", "track", f"results={results}", "tracker=wandb", "tracker.entity=me"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 300
        while not server.asked["file_stream"]:
            assert time.monotonic() < until
            time.sleep(0.05)
        helpers = psutil.Process(process.pid).children(recursive=True)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        _, alive = psutil.wait_procs(helpers, timeout=120)
        assert helpers
        assert not alive, "its helpers end with it"
    ledger = Ledger(results, online())
    assert ledger.count() == 0
    with Server() as server:
        on(server)
        assert track(results, online()) == {"online": 5}
        assert len(server.runs) == 5
        assert track(results, online()) == {"stored": 5}


def test_nothing_that_the_worker_does_reaches_the_caller(tmp_path):
    said = []
    worker = Worker(tmp_path, online(), said.append)
    assert [worker.do(dies) for _ in range(FAILURES + 1)] == [None] * (FAILURES + 1)
    assert len(said) == 2, "one for online, one for offline"
    assert worker.mode == "disabled"
    worker.close()
    worker = Worker(tmp_path, offline(time_limit=1), said.append)
    assert worker.do(hangs) is None
    assert "no answer within tracker.time_limit = 1 s" in said[2]
    worker.close()


def test_what_is_not_tracked_starts_nothing_and_imports_no_client(finished, in_fresh_python):
    code = f"""
import sys
from pathlib import Path
from mmbench.store.store import Store
from mmbench.tracking.follow import following
from mmbench.tracking.options import NoTracker, Wandb
import threading
for tracker in (NoTracker(), Wandb(mode="disabled")):
    with following(Store(Path({str(finished[0])!r})), [], tracker, "") as follower:
        print(follower, threading.active_count())
print("wandb" in sys.modules)
"""
    assert in_fresh_python(code).split() == ["None", "1", "None", "1", "False"]


def test_jobs_of_a_cluster_do_not_log(tmp_path):
    """However many start at once: whoever launched them does, from their records."""
    settings = Settings(results=str(tmp_path), tracker=online())
    assert "tracker" not in JobLoader(settings).settings
    assert Settings(results=str(tmp_path)).tracker == NoTracker()
