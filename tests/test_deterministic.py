from __future__ import annotations

import contextlib
import os
import sys

import pytest
import torch

from mmbench.cli.main import main
from mmbench.config import Settings, prepare
from mmbench.launcher import pool
from mmbench.launcher.local import run_sweep
from mmbench.launcher.pool import Options
from mmbench.metrics.base import Estimate, Metric
from mmbench.records.frame import load_records
from tests.faults.tiny import tiny
from tests.forked import Forked

TINY = ["model.hidden=[4]", "dataset.train_size=128", "training.steps=10", "training.warmup_steps=2", "device=cpu"]


@pytest.fixture
def as_before():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def test_torch_is_set_up_as_asked(as_before, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    assert prepare(Settings(device="cpu", threads=2, deterministic=True)) == "cpu"
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.get_num_threads() == 2
    assert not torch.backends.cudnn.benchmark
    prepare(Settings(device="cpu", threads=1))
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_single_run_is_set_up_as_asked(monkeypatch, tmp_path):
    def command():
        with contextlib.suppress(SystemExit):
            main(["run", *TINY, "metric=parameters", "deterministic=true"])
        sys.stdout.write(f"{torch.are_deterministic_algorithms_enabled()} {os.environ['CUBLAS_WORKSPACE_CONFIG']}\n")

    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    done = Forked(command, tmp_path, tmp_path).wait()
    assert done.stdout.splitlines()[-1] == "True :4096:8", done.stdout + done.stderr
    assert load_records(tmp_path / "results")["status"].item() == "done"


class Asks(Metric):
    """Asks how torch is set up where it is measured."""

    name = "asks"
    expected_sign = 1

    def measure(self, subject):
        return Estimate(float(torch.are_deterministic_algorithms_enabled() + 2 * torch.get_num_threads()), None)


def test_workers_are_set_up_as_asked(worker_server, monkeypatch, tmp_path):
    monkeypatch.setattr(pool, "end_server", lambda: None)
    for asked, score in ((True, 7.0), (False, 6.0)):
        settings = Settings(results=str(tmp_path / str(asked)), device="cpu", threads=3, deterministic=asked)
        run_sweep([tiny(metric=Asks())], settings, Options(slots=1))
        assert load_records(tmp_path / str(asked))["score"].item() == score
