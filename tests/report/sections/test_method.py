"""The versions of what ran and of what analysed."""

from mmbench.report.page import write_report

from ..helpers import Page


def test_versions_of_the_records_come_first_and_their_lack_is_mentioned(sweep_frame, judged, tmp_path):
    missing = "records of these runs hold no versions"
    assert missing in Page(write_report(sweep_frame, judged, tmp_path).read_text()).text
    frame = sweep_frame.assign(torch_version="2.7.1")
    text = Page(write_report(frame, judged, tmp_path).read_text()).text
    assert missing not in text
    assert "recorded by the runstorch_version2.7.1" in text
