"""`mmbench analyze` in odd terminals and beside odd stores."""

from __future__ import annotations

import io
import os

import pytest
from rich.console import Console

from mmbench import console
from mmbench.cli.analyze import warn_of_gaps
from mmbench.cli.status import census
from mmbench.records.frame import load_records
from mmbench.report.terminal import correlation_table
from mmbench.store.store import Store
from tests.records.synthetic import SIGNS, make_record, make_sweep, write_store


def printed(table, columns, encoding="utf-8"):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="mmbench")
    Console(file=stream, width=columns, highlight=False).print(table)
    stream.flush()
    return stream.buffer.getvalue().decode(encoding)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_a_console_without_our_characters_gets_others(sweep_table, encoding):
    said = printed(correlation_table(sweep_table), 100, encoding)
    assert all(metric in said for metric in SIGNS)
    assert "Spearman's rho" in said and "?" not in said
    assert all(len(replacement.encode("ascii")) for replacement in console.PLAIN.values())


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
def test_a_narrow_terminal_keeps_the_names_of_the_metrics(sweep_table, columns):
    said = printed(correlation_table(sweep_table, width=columns), columns)
    table = said[: said.index("baseline,")]
    assert all(f"{metric} " in table for metric in SIGNS), said
    assert "rho" in table
    assert ("left out for lack of width:" in said) == (columns < 80)


def test_in_an_ascii_terminal_of_60_columns_it_writes_elsewhere_than_to_the_store(mmbench, tmp_path):
    results = write_store(make_sweep()[:20], tmp_path / "results")
    before = set(results.rglob("*"))
    odd = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "COLUMNS": "60"}
    done = mmbench("analyze", "results=results", "output=mine/today", env=odd)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert all(f"{metric} " in done.stdout for metric in SIGNS), done.stdout
    assert set(results.rglob("*")) == before, "nothing is written to the store"
    assert {"report.html", "records.csv"} <= {path.name for path in (tmp_path / "mine" / "today").iterdir()}


def test_what_is_pooled_is_told(stored, capsys):
    rows = [make_record(seed=i, torch_version="2.5", mmbench_version="1.0" if i < 2 else "2.0") for i in range(5)]
    root = stored(rows)
    warn_of_gaps(load_records(root))
    told = " ".join(capsys.readouterr().err.split())
    assert "runs of several versions of mmbench are pooled: 1.0 (2 runs) and 2.0 (3 runs)" in told
    assert "versions of torch" not in told
    warn_of_gaps(load_records(root, "mmbench_version == '1.0'"))
    assert "are pooled" not in capsys.readouterr().err


def test_records_of_a_newer_mmbench_are_told_apart(stored, monkeypatch, capsys):
    root = stored([make_record()])
    monkeypatch.setattr("mmbench.store.store.VERSION", 99)
    Store(root).write_record({**make_record(seed=1), "run_id": "new"})
    monkeypatch.undo()
    warn_of_gaps(load_records(root))
    assert "update mmbench to read them" in " ".join(capsys.readouterr().err.split())
    told = []
    census(Store(root, told.append))
    assert "written by a newer mmbench" in told[0] and "counts as missing" not in told[0]
    assert (root / "records" / "new.json").exists()
