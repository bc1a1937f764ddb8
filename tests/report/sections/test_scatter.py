"""The data of the interactive scatter."""

import pytest

from mmbench.report.page import write_report
from mmbench.statistics.configurations import configurations, runs

from ..helpers import Page, data_of

pytestmark = pytest.mark.filterwarnings("error")


def test_the_data_hold_every_configuration_and_run(written, sweep_frame):
    data = data_of(Page(written.read_text()))
    units, counted = configurations(sweep_frame, "gain"), runs(sweep_frame, "gain")
    assert {metric["name"] for metric in data["metrics"]} == set(units["metric"])
    for metric in data["metrics"]:
        mine, its_runs = units[units["metric"] == metric["name"]], counted[counted["metric"] == metric["name"]]
        places = {data["configurations"][place][6]: (score, gain) for place, score, gain, *_ in metric["points"]}
        assert places.keys() == set(mine["configuration"])
        for unit in mine.to_dict("records"):
            assert places[unit["configuration"]] == pytest.approx((unit["score"], unit["target"]), rel=1e-5)
        members = [run for *_, group in metric["points"] for run in group]
        assert sorted(run[1] for run in members) == sorted(name[:10] for name in its_runs["run_id"])


def test_many_runs_are_left_out_one_by_one(sweep_frame, judged, tmp_path, monkeypatch):
    monkeypatch.setattr("mmbench.report.sections.scatter.MOST_RUNS", 10)
    page = Page(write_report(sweep_frame, judged, tmp_path).read_text())
    assert all(point[4] == [] for metric in data_of(page)["metrics"] for point in metric["points"])
    assert "over 10 runs" in page.text
