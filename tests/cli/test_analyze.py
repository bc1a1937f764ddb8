"""`mmbench analyze` in odd terminals and beside odd stores."""

from __future__ import annotations

import os
import stat

import pytest

from mmbench.store.store import Store
from tests.records.synthetic import SIGNS, make_sweep, write_store


@pytest.fixture
def results(tmp_path):
    return write_store(make_sweep(), tmp_path / "results")


def analyzed(mmbench, *arguments, **environment):
    done = mmbench("analyze", *arguments, env={**os.environ, **environment})
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_a_console_without_our_characters_gets_others(mmbench, results, encoding):
    said = analyzed(mmbench, PYTHONIOENCODING=encoding, COLUMNS="100", PYTHONUTF8="0").stdout
    assert all(metric in said for metric in SIGNS)
    assert "Spearman's rho" in said and "?" not in said


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
def test_a_narrow_terminal_keeps_the_names_of_the_metrics(mmbench, results, columns):
    said = analyzed(mmbench, COLUMNS=str(columns)).stdout
    table = said[: said.index("baseline,")]
    assert all(f"{metric} " in table for metric in SIGNS), said
    assert max(map(len, table.splitlines())) <= columns
    assert "rho" in table
    assert ("left out for lack of width:" in said) == (columns < 80)


def test_the_analysis_can_be_written_elsewhere(mmbench, results, tmp_path):
    before = {path for path in results.rglob("*")}
    for path in [results, *(path for path in before if path.is_dir())]:
        path.chmod(stat.S_IREAD | stat.S_IEXEC)
    try:
        analyzed(mmbench, "results=results", "output=mine/today")
    finally:
        for path in [results, *(path for path in before if path.is_dir())]:
            path.chmod(stat.S_IRWXU)
    assert {path for path in results.rglob("*")} == before, "nothing is written to the store"
    assert (tmp_path / "mine" / "today" / "report.html").exists()
    assert (tmp_path / "mine" / "today" / "records.csv").exists()


def test_what_is_pooled_and_what_is_left_out_is_told(mmbench_here, results):
    store, records = Store(results), make_sweep()
    for i, record in enumerate(records):
        store.write_record({**record, "mmbench_version": "1.0" if i % 2 else "2.0", "torch_version": "2.5"})
    told = " ".join(mmbench_here("analyze").stderr.split())
    assert "runs of several versions of mmbench are pooled: 1.0 (60 runs) and 2.0 (60 runs)" in told
    assert "versions of torch" not in told
    one = " ".join(mmbench_here("analyze", "where=mmbench_version == '1.0'").stderr.split())
    assert "are pooled" not in one


def test_records_of_a_newer_mmbench_are_told_apart(mmbench_here, results, monkeypatch):
    monkeypatch.setattr("mmbench.store.store.VERSION", 99)
    Store(results).write_record({**make_sweep()[0], "run_id": "new"})
    monkeypatch.undo()
    assert "update mmbench to read them" in " ".join(mmbench_here("analyze").stderr.split())
    assert "written by a newer mmbench" in " ".join(mmbench_here("status").stderr.split())
    assert (results / "records" / "new.json").exists()
