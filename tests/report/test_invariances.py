import re

import pytest

from mmbench.report import invariances
from mmbench.report.page import write_report
from mmbench.statistics.judge import judge

EVIL = "<script>alert('x')</script>&\""


def row(**changes):
    found = {"metric": "m", "network": "mlp", "change": "folding", "verdict": "changes", "drift": "0.25", "error": "0"}
    return {**found, "reason": "", **changes}


def cells(rows, monkeypatch, metrics=("m",)):
    monkeypatch.setattr(invariances, "certificates", lambda: rows)
    return re.findall(r"<td>(.*?)</td>", invariances.section(metrics))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"verdict": "invariant", "drift": "0"}, "unchanged"),
        ({}, "25 %"),
        ({"drift": "1.3", "error": "0.01"}, "130 %"),
        ({"drift": "0.25", "error": "0.05"}, "25 ± 5 %"),
        ({"verdict": "within error", "drift": "0.012", "error": "0.034"}, "(1.2 ± 3.4 %)"),
        ({"verdict": "within error", "drift": "1e-05", "error": "1.5e-05"}, "(0.001 ± 0.0015 %)"),
        ({"verdict": "undefined", "drift": "", "error": "", "reason": "a & b"}, '<span title="a &amp; b">–</span>'),
    ],
)
def test_a_cell_says_what_was_found(changes, text, monkeypatch):
    assert cells([row(**changes)], monkeypatch) == [text]


def test_a_metric_that_was_not_measured_has_dashes(monkeypatch):
    assert cells([row()], monkeypatch, ["m", "of a user's own"]) == ["25 %", "–"]


def test_text_is_escaped(monkeypatch):
    rows = [row(metric=EVIL, network=EVIL, change=EVIL, verdict="undefined", reason=EVIL)]
    monkeypatch.setattr(invariances, "certificates", lambda: rows)
    page = invariances.section([EVIL])
    assert "<script" not in page
    assert page.count("&lt;script&gt;") == 4


def test_the_report_has_the_section_for_its_metrics(sweep_frame, tmp_path):
    text = write_report(sweep_frame, judge(sweep_frame), tmp_path).read_text()
    section = text.split(">What leaves each metric unchanged</h2>")[1].split("<h2")[0]
    assert "16\nseeds" in section
    assert sorted(re.findall(r'<th scope="row">(\w+)</th>', section)) == sorted(sweep_frame["metric"].unique())
    assert section.count("<td>unchanged</td>") >= 8


def test_the_file_is_whole():
    rows = invariances.certificates()
    assert len(rows) > 100
    assert len({(r["metric"], r["network"], r["change"]) for r in rows}) == len(rows)
    for found in rows:
        assert found["verdict"] in {"invariant", "within error", "changes", "undefined"}
        assert bool(found["reason"]) == (found["verdict"] == "undefined")
        assert found["verdict"] == "undefined" or float(found["drift"]) >= 0 <= float(found["error"])
