"""What failed, was skipped or was left out, and why."""

import re

import pandas as pd
import pytest

from mmbench.report.page import write_report

from ..helpers import Page, judge_gain

pytestmark = pytest.mark.filterwarnings("error")


def test_reasons_are_counted_and_those_that_differ_in_numbers_are_one(written):
    text = written.read_text()
    rows = re.findall(r'<tr><th scope="row">(\d+)</th><td>(\w+)</td><td class="text">([^<]*)</td>', text)
    assert rows == [
        ("10", "skipped", "no &lt;residual&gt; blocks"),
        ("2", "failed", "for example: diverged at step 12"),
    ]
    assert "120 runs: 108 done, 2 failed, 10 skipped. 0 damaged record files left out." in Page(text).text


def test_what_was_left_out_is_mentioned(sweep_frame, judged, tmp_path):
    frame = sweep_frame.copy()
    frame.attrs |= {
        "damaged": ["a"],
        "filtered": 3,
        "where": 'model == "<x>"',
        "other_versions": [{"path": "records/old.json", "version": "2"}],
    }
    text = Page(write_report(frame, judged, tmp_path).read_text()).text
    assert "1 damaged record file left out." in text
    assert '3 runs left out by the condition model == "<x>".' in text
    assert "records/old.json is of version 2" in text


def test_long_lists_of_reasons_are_cut(record, tmp_path):
    frame = pd.DataFrame(
        [record(status="failed", error=f"{'x' * place} {'y' * 400}", seed=place) for place in range(70)]
    )
    text = write_report(frame, judge_gain(frame), tmp_path).read_text()
    assert "and 10 more reasons" in Page(text).text
    assert "y" * 301 not in text
