"""A section is one file, found by lying in the folder."""

import re
from pathlib import Path

import pytest

from mmbench.report import sections
from mmbench.report.page import write_report
from mmbench.report.sections.base import all_sections
from mmbench.statistics.judge import judge

from ..helpers import Page

pytestmark = pytest.mark.filterwarnings("error")
EXTRA = """
from mmbench.report.sections.base import Section
from mmbench.report.table import Table


class Extra(Section):
    title = "How many runs <each>"
    order = 15
    template = "<p>{{ runs }} runs of {{ name }}</p>{{ table(counts) }}"

    def content(self, results):
        counts = results.frame["metric"].value_counts().sort_index()
        rows = [[metric, str(n)] for metric, n in counts.items()]
        return {"runs": len(results.frame), "name": "<all>", "counts": Table(["metric", "runs"], rows, "Runs")}
"""


def test_a_new_section_is_one_file(sweep_frame, judged, tmp_path, monkeypatch):
    (tmp_path / "extra.py").write_text(EXTRA)
    monkeypatch.setattr(sections, "__path__", [*sections.__path__, str(tmp_path)])
    text = write_report(sweep_frame, judged, tmp_path).read_text()
    page = Page(text)
    names = [name for name in page.ids if f"{name}-h" in page.ids]
    assert names[:4] == ["strategies", "correlations", "extra", "equal_budget"]
    assert f"{len(sweep_frame)} runs of <all>" in page.text
    assert 'href="#extra">How many runs &lt;each&gt;</a>' in text
    section = text.split('<section id="extra"')[1].split("</section>")[0]
    assert re.findall(r'<th scope="row">(\w+)</th><td>24</td>', section) == sorted(sweep_frame["metric"].unique())


def test_every_file_is_a_section_with_a_name_and_a_place_of_its_own():
    known = all_sections()
    files = {file.stem for file in Path(sections.__file__).parent.glob("[a-z]*.py")}
    assert {section.name for section in known} == files - {"base"}
    assert len({section.order for section in known}) == len({section.title for section in known}) == len(known)


def test_without_a_run_there_are_only_the_sections_that_say_so(sweep_frame, tmp_path):
    page = Page(write_report(sweep_frame[:0], judge(sweep_frame[:0]), tmp_path).read_text())
    assert [name for name in page.ids if f"{name}-h" in page.ids] == ["runs", "settings", "method"]
    assert page.scripts == []
    assert "script-src 'none';" in page.all("meta")[1]["content"]
