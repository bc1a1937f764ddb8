import re

import pytest

from mmbench.report.sections.invariances import certificates, changes_table
from mmbench.report.template import render

EVIL = "<script>alert('x')</script>&\""


def row(**changes):
    known = {"metric": "m", "network": "mlp", "change": "folding", "verdict": "changes", "drift": "0.25", "error": "0"}
    return {**known, "reason": "", **changes}


def html(metrics, rows):
    return render("{{ table(changes) }}", changes=changes_table(metrics, rows))


def cells(rows, metrics=("m",)):
    return re.findall(r"<td>(.*?)</td>", html(metrics, rows))


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
def test_a_cell_says_what_was_measured(changes, text):
    assert cells([row(**changes)]) == [text]


def test_a_metric_that_was_not_measured_has_dashes():
    assert cells([row()], ["m", "of a user's own"]) == ["25 %", "–"]


def test_text_is_escaped():
    page = html([EVIL], [row(metric=EVIL, network=EVIL, change=EVIL, verdict="undefined", reason=EVIL)])
    assert "<script" not in page
    assert page.count("&lt;script&gt;") == 4


def test_the_report_has_the_section_for_its_metrics(sweep_frame, written):
    section = written.read_text().split(">What leaves each metric unchanged</h2>")[1].split("<h2")[0]
    assert "over 16 seeds" in section
    assert sorted(re.findall(r'<th scope="row">(\w+)</th>', section)) == sorted(sweep_frame["metric"].unique())
    assert section.count("<td>unchanged</td>") >= 8


def test_the_file_is_whole():
    rows = certificates()
    assert len(rows) > 100
    assert len({(r["metric"], r["network"], r["change"]) for r in rows}) == len(rows)
    for r in rows:
        assert r["verdict"] in {"invariant", "within error", "changes", "undefined"}
        assert bool(r["reason"]) == (r["verdict"] == "undefined")
        assert r["verdict"] == "undefined" or float(r["drift"]) >= 0 <= float(r["error"])
