from __future__ import annotations

import json
import shlex
import subprocess
import sys

import pytest

from mmbench.cli.status import census, print_status
from mmbench.store.store import Store
from mmbench.sweep import as_json
from tests.launcher.small import DIVERGES, FIRST, small, swept


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "store")
    store.prepare()
    return store


def state(store, run):
    return census(store).states[run.run_id]


def marked_by_the_dead(store, run, stage):
    """A heartbeat of a process that is dead."""
    code = f"from pathlib import Path; from mmbench.store.store import Store; store = Store(Path({str(store.root)!r}))"
    code += f"; store.write_heartbeat({run.run_id!r}, {stage!r})"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_states_of_runs(store):
    waiting, running, interrupted, failed = small(6), small(7), small(8), small(9)
    _, _ = swept(store.root, [*FIRST, DIVERGES])
    store.write_sweep(as_json([waiting, running, interrupted, failed]))
    store.write_heartbeat(running.run_id, "score")
    marked_by_the_dead(store, interrupted, "trained")
    store.write_record({**failed.identity(), "status": "failed", "error": "ValueError: no", "error_type": "ValueError"})
    found = census(store)
    assert found.states[FIRST[0].run_id] == ("done", "")
    assert found.states[FIRST[3].run_id][0] == "skipped"
    assert "no residual blocks" in found.states[FIRST[3].run_id][1]
    assert found.states[DIVERGES.run_id][0] == "failed"
    assert "diverged" in found.states[DIVERGES.run_id][1]
    assert found.states[waiting.run_id] == ("missing", "not started, or stopped between two stages")
    assert found.states[running.run_id] == ("running", "measuring the expanded model")
    assert found.states[interrupted.run_id][0] == "interrupted"
    assert found.states[interrupted.run_id][1].startswith("while training the expanded model, on ")
    assert found.states[failed.run_id] == ("failed", "ValueError: no")
    assert len(found.labels) == len(found.states) == 9
    assert {s: found.count(s) for s in ("done", "failed", "skipped", "running", "interrupted", "missing")} == {
        "done": 3, "failed": 2, "skipped": 1, "running": 1, "interrupted": 1, "missing": 1
    }  # fmt: skip


def test_a_failed_run_that_is_tried_again_is_running(store):
    run = small()
    store.write_sweep(as_json([run]))
    store.write_record({**run.identity(), "status": "failed", "error": "ValueError: no", "error_type": "ValueError"})
    store.write_heartbeat(run.run_id, "base")
    assert state(store, run)[0] == "running"
    store.remove_heartbeat(run.run_id)
    assert state(store, run)[0] == "failed"


def test_a_finished_run_was_not_interrupted(store):
    run = small()
    swept(store.root, [run])
    marked_by_the_dead(store, run, "trained")
    assert state(store, run) == ("done", "")


def test_a_damaged_record_counts_as_missing_and_is_told(store):
    run = small()
    swept(store.root, [run])
    path = store.root / "records" / f"{run.run_id}.json"
    path.write_text(path.read_text()[:-40])
    told = []
    assert state(Store(store.root, told.append), run)[0] == "missing"
    assert len(told) == 1 and "is damaged" in told[0] and "it counts as missing" in told[0]
    assert path.exists(), "looking changes nothing"


def test_a_damaged_sweep_is_told(store):
    swept(store.root, FIRST)
    (path,) = (store.root / "sweeps").glob("*.json")
    path.write_text(json.dumps({"runs": {"x": "y"}}))
    told = []
    found = census(Store(store.root, told.append))
    assert "is damaged" in told[0]
    assert set(found.labels) == {run.run_id for run in FIRST}, "what has a record counts"


def test_every_reason_names_some_of_its_runs_or_all(store, capsys):
    runs = [small(seed) for seed in range(5)]
    store.write_sweep(as_json(runs))
    print_status(store.root)
    said = capsys.readouterr().out
    assert "5 runs in" in said
    assert sum(run.label in said for run in runs) == 3
    assert f"and 2 more ({shlex.join(['mmbench', 'status', f'results={store.root}', 'all=true'])} lists them)" in said
    assert "The same `mmbench run` command computes what is missing." in said
    assert "mmbench retry" not in said
    print_status(store.root, everything=True)
    said = capsys.readouterr().out
    assert all(run.label in said for run in runs)


def test_an_empty_store_has_no_runs(store, capsys):
    print_status(store.root)
    assert "0 runs in" in capsys.readouterr().out


def test_status_takes_true_or_false(mmbench_here, tmp_path):
    Store(tmp_path / "results").prepare()
    assert mmbench_here("status", "all=true").returncode == 0
    wrong = mmbench_here("status", "all=yes")
    assert wrong.returncode == 2
    assert "all = 'yes' is not allowed: must be true or false" in wrong.stderr
