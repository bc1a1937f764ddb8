import pandas as pd
import pytest

from mmbench.errors import StoreError
from mmbench.records.frame import load_records
from mmbench.report.analyze import analyze
from mmbench.statistics.judge import judge
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


def test_a_part_of_a_sweep_becomes_tables_figures_and_a_report(stored, sweep, capfd):
    kept = [row for row in sweep if row["metric"] in ("manifold", "random") and row["seed"] == 0]
    results = stored(sweep)
    where = "metric in ['manifold', 'random'] and seed == 0"
    analysis = analyze(results, where)
    assert analysis.folder == results / "analysis"
    assert analysis.report == results / "analysis/report.html"
    files = {str(path.relative_to(analysis.folder)) for path in analysis.folder.rglob("*") if path.is_file()}
    figures = ("strategies", "overview", "equal_budget", "regret", "scatter_manifold", "scatter_random")
    tables = {"records.parquet", "records.csv", "correlations.tex", "report.html"}
    tables |= {f"{name}.csv" for name in (*analysis.judgement.tables, "manifold_grid", "manifold_grid_choices")}
    assert files == tables | {f"figures/{stem}.{kind}" for stem in figures for kind in ("png", "svg")}
    assert len(analysis.frame) == len(pd.read_csv(analysis.folder / "records.csv")) == len(kept)
    assert analysis.judgement.exclusions["reason"].tolist()[0] == f"left out by where: {where}"
    assert analysis.judgement.exclusions["n"].tolist()[0] == len(sweep) - len(kept)
    for name, table in analysis.judgement.tables.items():
        read = pd.read_csv(analysis.folder / f"{name}.csv")
        assert list(read.columns) == list(table.columns)
        assert len(read) == len(table)
    correlations = pd.read_csv(analysis.folder / "correlations.csv")
    pd.testing.assert_series_equal(correlations["spearman"], analysis.correlations["spearman"])
    assert correlations["sign_agrees"].dropna().isin([True, False]).all()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("kind", "runs"), [("empty", 0), ("failures", 2), ("one", 1)])
def test_any_store_can_be_analyzed(analysed, kind, runs):
    analysis = analysed(kind)
    assert len(pd.read_csv(analysis.folder / "records.csv")) == len(analysis.frame) == runs
    assert list(pd.read_csv(analysis.folder / "correlations.csv").columns) == list(analysis.correlations.columns)
    text = analysis.report.read_text()
    assert ("Too few to say: only 1 configuration" if kind == "one" else "There are no results yet") in text
    assert ("out of luck" in text) == (kind == "failures")
    assert ("one point per configuration: ρ within base models undefined" in text) == (kind == "one")
    files = {path: path.read_bytes() for path in analysis.folder.rglob("*") if path.is_file()}
    analyze(analysis.folder.parent)
    assert files == {path: path.read_bytes() for path in analysis.folder.rglob("*") if path.is_file()}


def test_a_sweep_that_is_still_running(stored, few):
    folder = stored(few[:4])
    store = Store(folder)
    store.write_sweep({"runs": {row["run_id"]: "label" for row in few}})
    store.write_heartbeat(few[4]["run_id"], "trained")
    analysis = analyze(folder)
    assert "The sweep is not finished: 2 runs missing, 1 of them running." in " ".join(analysis.judgement.remarks)
    assert "The sweep is not finished: 1 running, 2 missing." in analysis.report.read_text()
    store.write_record(few[4])
    store.write_record(few[5])
    assert not any("not finished" in sentence for sentence in judge(load_records(folder)).remarks)


def test_a_run_that_failed_and_was_tried_again(stored, few):
    folder = stored([{**few[0], "status": "failed", "error": "out of memory", "score": None, "gain": None}, *few[1:]])
    first = load_records(folder)
    assert judge(first).exclusions["reason"].tolist()[0] == "failed: out of memory"
    Store(folder).write_record(few[0])
    again = load_records(folder)
    assert not judge(again).exclusions["reason"].str.contains("memory").any()
    assert len(again) == len(first) == 6


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


def test_a_place_that_cannot_be_written_is_a_sentence(stored):
    results = stored([])
    (results / "analysis").touch()
    with pytest.raises(StoreError, match="cannot write the analysis"):
        analyze(results)


def test_a_missing_store_is_a_sentence_and_nothing_is_made(tmp_path):
    with pytest.raises(StoreError, match="does not exist"):
        analyze(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
