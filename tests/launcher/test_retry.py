from __future__ import annotations

import pytest

from mmbench.config import Settings
from mmbench.errors import StoreError
from mmbench.launcher.retry import failed
from mmbench.store.store import Store
from mmbench.sweep import as_json

from .small import DIVERGES, FIRST, small, swept


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = Store(tmp_path / "store")
    store.prepare()
    return store


def settings(store):
    return Settings(results=str(store.root))


def failing(store, run, kind="ProcessExpired"):
    """Record a run as failed."""
    store.write_record({**run.identity(), "status": "failed", "error": "the worker died", "error_type": kind})


def test_what_failed_is_made_again_from_what_was_written_down(store):
    runs = [small(5), small(6), small(7)]
    store.write_sweep(as_json(runs))
    failing(store, runs[0])
    failing(store, runs[2], "ValueError")
    assert {run.run_id for run in failed(settings(store))} == {runs[0].run_id, runs[2].run_id}


def test_what_is_bound_to_fail_again_is_left(store, capsys):
    swept(store.root, [*FIRST, DIVERGES])
    assert failed(settings(store)) == []
    said = capsys.readouterr().out
    assert "1 runs are not tried again: they would give the same DivergedError" in said
    assert "Nothing to retry." in said


def test_runs_of_two_folders_are_told(store, tmp_path):
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        store.write_sweep({**as_json([small(number)]), "folder": str(tmp_path / str(number))})
        failing(store, small(number))
    with pytest.raises(StoreError, match="started in 2 folders"):
        failed(settings(store))


def test_the_folder_of_the_sweep_is_entered(store, tmp_path, monkeypatch):
    from pathlib import Path

    store.write_sweep(as_json([small(5)]))
    failing(store, small(5))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert len(failed(settings(store))) == 1
    assert Path.cwd() == tmp_path


def test_a_run_that_cannot_be_made_any_more_is_told_and_left(store, tmp_path, capsys):
    sweep = as_json([small(5), small(6)])
    lost = small(5).run_id
    sweep["configs"][lost]["dataset"] = {"name": "parquet", "path": str(tmp_path / "lost")}
    store.write_sweep(sweep)
    failing(store, small(5))
    failing(store, small(6))
    assert [run.run_id for run in failed(settings(store))] == [small(6).run_id]
    assert f"{lost} in" in capsys.readouterr().err


def test_without_a_store_there_is_nothing(tmp_path):
    with pytest.raises(StoreError, match="is not a folder"):
        failed(Settings(results=str(tmp_path / "nowhere")))


def test_retry_through_the_command_line(mmbench_here, worker_server, tmp_path):
    (tmp_path / "sub").mkdir()
    store = Store(tmp_path / "results")
    store.prepare()
    store.write_sweep({**as_json([small(5), small(6)]), "folder": str(tmp_path)})
    failing(store, small(5))
    done = mmbench_here("retry", "results=../results", "hydra.launcher.slots=1", folder="sub")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 runs: 1 done" in done.stdout
    assert Store(tmp_path / "results").record_ids() == {small(5).run_id}, "what is missing is no failure"
    assert not (tmp_path / "sub" / "results").exists()
    assert "Nothing to retry." in mmbench_here("retry").stdout
