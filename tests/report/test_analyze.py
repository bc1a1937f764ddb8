import pandas as pd
import pytest

from mmbench.errors import StoreError
from mmbench.report.analyze import analyze

pytestmark = pytest.mark.filterwarnings("error")


def test_a_sweep_becomes_tables_figures_and_a_report(stored, sweep, capfd):
    keep = [row for row in sweep if row["metric"] in ("manifold", "random") and row["seed"] == 0]
    results = stored(keep)
    analysis = analyze(results)
    assert analysis.folder == results / "analysis"
    assert analysis.report == results / "analysis/report.html"
    files = {str(path.relative_to(analysis.folder)) for path in analysis.folder.rglob("*") if path.is_file()}
    figures = ("overview", "equal_budget", "regret", "scatter_manifold", "scatter_random")
    tables = {"records.parquet", "records.csv", "correlations.tex", "report.html"}
    tables |= {f"{name}.csv" for name in analysis.judgement.tables}
    assert files == tables | {f"figures/{stem}.{kind}" for stem in figures for kind in ("png", "svg")}
    assert len(analysis.frame) == len(keep)
    table = pd.read_csv(analysis.folder / "correlations.csv")
    pd.testing.assert_series_equal(table["spearman"], analysis.correlations["spearman"])
    assert table["sign_agrees"].dropna().isin([True, False]).all()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("kind", "runs"), [("empty", 0), ("failures", 2), ("one", 1)])
def test_any_store_can_be_analyzed(analysed, kind, runs):
    analysis = analysed(kind)
    assert len(pd.read_csv(analysis.folder / "records.csv")) == len(analysis.frame) == runs
    assert list(pd.read_csv(analysis.folder / "correlations.csv").columns) == list(analysis.correlations.columns)
    text = analysis.report.read_text()
    assert ("Too few to say: only 1 configuration" if kind == "one" else "There are no results yet") in text
    assert ("out of luck" in text) == (kind == "failures")
    assert ("one point per configuration: ρ undefined" in text) == (kind == "one")
    files = {path: path.read_bytes() for path in analysis.folder.rglob("*") if path.is_file()}
    analyze(analysis.folder.parent)
    assert files == {path: path.read_bytes() for path in analysis.folder.rglob("*") if path.is_file()}


def test_a_place_that_cannot_be_written_is_a_sentence(stored):
    results = stored([])
    (results / "analysis").touch()
    with pytest.raises(StoreError, match="cannot write the analysis"):
        analyze(results)


def test_a_missing_store_is_a_sentence_and_nothing_is_made(tmp_path):
    with pytest.raises(StoreError, match="does not exist"):
        analyze(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
