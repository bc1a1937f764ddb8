"""`analyze` on stores as they are found: half full, of two versions, several, nothing but failures."""

import pandas as pd
import pytest

from mmbench.report.analyze import analyze
from mmbench.store.files import read_json, write_json
from mmbench.store.store import VERSION, Store

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def few(record):
    return [
        record(seed=seed, expansion=name, score=score, gain=score / 10)
        for seed in (0, 1)
        for name, score in (("a", 1.0), ("b", 2.0), ("c", 3.0))
    ]


def test_a_sweep_that_is_still_running(stored, few):
    folder = stored(few[:4])
    store = Store(folder)
    store.write_sweep({"runs": {row["run_id"]: "label" for row in few}})
    store.mark(few[4]["run_id"], "trained")
    analysis = analyze(folder)
    assert "The sweep is not finished: 2 runs missing, 1 of them running." in " ".join(analysis.judgement.remarks)
    store.write_record(few[4])
    store.write_record(few[5])
    assert not any("not finished" in sentence for sentence in analyze(folder).judgement.remarks)


def test_a_run_that_failed_and_was_tried_again(stored, few):
    folder = stored([{**few[0], "status": "failed", "error": "out of memory", "score": None, "gain": None}, *few[1:]])
    first = analyze(folder)
    assert first.judgement.exclusions["reason"].tolist()[0] == "failed: out of memory"
    Store(folder).write_record(few[0])
    again = analyze(folder)
    assert not again.judgement.exclusions["reason"].str.contains("memory").any()
    assert len(again.frame) == len(first.frame) == 6


def test_two_stores_of_which_one_is_older(stored, few):
    now = stored(few[:3], "now")
    old = stored(few[3:], "old")
    for path in (old / "records").iterdir():
        row = read_json(path)
        path.unlink()
        write_json(path, {**row, "store_version": VERSION - 1})
    analysis = analyze([now, old])
    assert analysis.folder == now / "analysis"
    assert not (old / "analysis").exists()
    assert len(analysis.frame) == 3
    lost = analysis.judgement.exclusions.iloc[0]
    assert (lost["where"], lost["reason"], lost["n"]) == ("file", f"of version {VERSION - 1} of the store", 3)
    assert lost["example"].startswith(str(old))


def test_a_part_of_the_runs(stored, few):
    analysis = analyze(stored(few), "seed == 1")
    assert len(analysis.frame) == len(pd.read_csv(analysis.folder / "records.csv")) == 3
    assert analysis.judgement.exclusions["reason"].tolist()[0] == "left out by where: seed == 1"
    assert analysis.judgement.exclusions["n"].tolist()[0] == 3


def test_every_table_is_written_and_reads_back(stored, sweep):
    analysis = analyze(stored(sweep))
    for name, table in analysis.judgement.tables.items():
        read = pd.read_csv(analysis.folder / f"{name}.csv")
        assert list(read.columns) == list(table.columns)
        assert len(read) == len(table)
