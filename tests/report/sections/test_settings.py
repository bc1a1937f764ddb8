"""Every setting of the runs in full."""

from mmbench.records.curves import Traces
from mmbench.report.page import write_report

from ..helpers import Page


def test_settings_are_shown_in_full(sweep_frame, judged, tmp_path):
    traces = Traces(settings={"model": ['{"hidden": [8, 8], "name": "<mlp>"}']}, left_out=7)
    text = Page(write_report(sweep_frame, judged, tmp_path, (), traces).read_text()).text
    assert "<mlp>hidden=[8, 8]" in text
    assert "7 of its stage results were not read" in " ".join(text.split())
