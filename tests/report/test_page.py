import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from itertools import pairwise

import pandas as pd
import pytest

from mmbench.records.curves import Curve, Traces
from mmbench.report.page import write_report
from mmbench.report.plots import draw
from mmbench.statistics.configurations import configurations, runs
from mmbench.statistics.judge import judge

pytestmark = pytest.mark.filterwarnings("error")
EVIL = "<script>alert('x')</script>&\u2028</title>]]>"
VOID = ("meta", "br", "input")


class Page(HTMLParser):
    """Checks that every tag is closed, and collects what the tests ask about."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.ids, self.text, self.scripts = [], [], [], "", []
        self.found = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.found.append((tag, dict(attributes)))
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.found.append((tag, dict(attributes)))
        self.ids += [value for name, value in attributes if name == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif not self.open or self.open[-1] != "style":
            self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


def data_of(page):
    return json.loads(page.scripts[0])


@pytest.fixture(scope="module")
def judged(sweep_frame):
    return judge(sweep_frame)


@pytest.fixture(scope="module")
def written(sweep_frame, judged, tmp_path_factory):
    """A report of the whole sweep, with all figures."""
    folder = tmp_path_factory.mktemp("report")
    line = Curve("digits", "mlp", "net2wider", (0.0, 1.0), (2.0, 1.0))
    traces = Traces(curves=[line], along=[line], between=[line])
    return write_report(sweep_frame, judged, folder, draw(sweep_frame, judged, folder / "figures", traces), traces)


@pytest.fixture(scope="module")
def page(written):
    return Page(written.read_text())


def page_of(records, folder):
    frame = pd.DataFrame(records)
    return write_report(frame, judge(frame), folder).read_text()


def test_the_page_needs_nothing_else_and_runs_no_script_but_its_own(written, page):
    text = written.read_text()
    assert not re.search(r"https?:|//[a-z]|@import|\bsrc=|url\((?!#)", text.replace("http-equiv", ""))
    assert not re.search(r"<[^>]*\son\w+=", text)
    assert not {"link", "img", "iframe", "object", "base"} & set(page.tags)
    data, script = page.scripts
    policy = page.all("meta")[1]["content"]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.startswith("default-src 'none';")
    assert f"script-src 'sha256-{digest}';" in policy
    assert page.all("script")[0]["type"] == "application/json"
    assert json.loads(data)["metrics"]


def test_every_figure_has_words_and_every_table_a_caption_and_scopes(page):
    images = [svg for svg in page.all("svg") if svg.get("role") == "img"]
    assert len(images) == 5 + 5  # overview, equal budget, regret, branches, training; one scatter for each metric
    assert all(len(svg["aria-label"]) > 60 for svg in images)
    others = [svg for svg in page.all("svg") if svg.get("role") != "img"]
    assert all(svg.get("aria-hidden") == "true" or svg.get("aria-label") for svg in others)
    assert page.tags.count("table") == page.tags.count("caption") > 8
    assert all(cell.get("scope") in ("col", "row") for cell in page.all("th"))


def test_headings_are_in_order_and_the_contents_lead_to_sections(page):
    levels = [int(tag[1]) for tag in page.tags if tag in ("h1", "h2", "h3")]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    links = [link["href"] for link in page.all("a")]
    assert len(links) == levels.count(2)
    assert set(links) <= {f"#{name}" for name in page.ids}


def test_no_two_elements_share_an_id_and_figures_refer_to_their_own(written, page):
    assert len(page.ids) == len(set(page.ids)) > 100
    drawn = written.read_text().split("<script")[0]
    assert {a or b for a, b in re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', drawn)} <= set(page.ids)


def test_the_data_hold_every_configuration_and_run(page, sweep_frame):
    data, units, single = data_of(page), configurations(sweep_frame, "gain"), runs(sweep_frame, "gain")
    assert {metric["name"] for metric in data["metrics"]} == set(units["metric"])
    for metric in data["metrics"]:
        mine, its_runs = units[units["metric"] == metric["name"]], single[single["metric"] == metric["name"]]
        found = {data["configurations"][place][6]: (score, gain) for place, score, gain, *_ in metric["points"]}
        assert found.keys() == set(mine["configuration"])
        for unit in mine.to_dict("records"):
            assert found[unit["configuration"]] == pytest.approx((unit["score"], unit["target"]), rel=1e-5)
        listed = [run for *_, members in metric["points"] for run in members]
        assert sorted(run[1] for run in listed) == sorted(name[:10] for name in its_runs["run_id"])


def test_the_pictures_without_script_have_a_mark_per_configuration(written, page):
    pictures = re.findall(r'<figure data-metric="(\w+)">(.*?)</figure>', written.read_text(), re.DOTALL)
    counts = {metric["name"]: len(metric["points"]) for metric in data_of(page)["metrics"]}
    assert {name: sum(path.count(" ") for path in re.findall(r'class=dots d="M([^"]+)"', picture))
            for name, picture in pictures} == counts  # fmt: skip


def test_many_runs_are_left_out_one_by_one(sweep_frame, judged, tmp_path, monkeypatch):
    monkeypatch.setattr("mmbench.report.points.MOST_RUNS", 10)
    monkeypatch.setattr("mmbench.report.page.MOST_RUNS", 10)
    page = Page(write_report(sweep_frame, judged, tmp_path).read_text())
    assert all(point[4] == [] for metric in data_of(page)["metrics"] for point in metric["points"])
    assert "over 10 runs" in page.text


def test_the_same_input_gives_the_same_bytes(sweep_frame, judged, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_report(sweep_frame, judged, tmp_path / name)
    for file in ("report.html", "correlations.tex"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_text_from_data_is_escaped(points, tmp_path):
    names = {name: f"{name}{EVIL}" for name in ("metric", "model", "dataset", "training", "expansion", "axis")}
    rows = points([1, 2, 3], [0.1, 0.2, 0.3], **names) + points([1], [0.1], status="failed", error=EVIL, **names)
    frame = pd.DataFrame(rows)
    judgement = judge(frame)
    text = write_report(frame, judgement, tmp_path, draw(frame, judgement, tmp_path)).read_text()
    page = Page(text)
    assert page.tags.count("script") == 2  # the page's data and its own script
    assert "\u2028" not in page.scripts[0]
    assert "<" not in page.scripts[0]
    assert data_of(page)["names"]["operators"] == [names["expansion"]]
    assert all(name in page.text for name in (names["metric"], f"model={names['model']}", EVIL.splitlines()[0]))


def test_reasons_are_counted_and_those_that_differ_in_numbers_are_one(written, page):
    rows = re.findall(r'<tr><th scope="row">(\d+)</th><td>(\w+)</td><td class="text">([^<]*)</td>', written.read_text())
    assert rows == [
        ("10", "skipped", "no &lt;residual&gt; blocks"),
        ("2", "failed", "for example: diverged at step 12"),
    ]
    assert "120 runs: 108 done, 2 failed, 10 skipped. 0 damaged record files left out." in page.text


def test_what_was_left_out_is_mentioned(sweep_frame, judged, tmp_path):
    frame = sweep_frame.copy()
    frame.attrs |= {
        "damaged": ["a"],
        "filtered": 3,
        "where": 'model == "<x>"',
        "other_versions": [{"path": "records/old.json", "version": "2"}],
        "unfinished": {"running": 1, "missing": 4},
    }
    text = Page(write_report(frame, judged, tmp_path).read_text()).text
    assert "1 damaged record file left out." in text
    assert '3 runs left out by the condition model == "<x>".' in text
    assert "records/old.json is of version 2" in text
    assert "not finished: 1 running, 4 missing" in text


def test_long_lists_of_reasons_are_cut(record, tmp_path):
    text = page_of(
        [record(status="failed", error=f"{'x' * place} {'y' * 400}", seed=place) for place in range(70)], tmp_path
    )
    assert "and 10 more reasons" in Page(text).text
    assert "y" * 301 not in text


def test_settings_are_told_in_full(sweep_frame, judged, tmp_path):
    traces = Traces(settings={"model": ['{"hidden": [8, 8], "name": "<mlp>"}']}, left_out=7)
    text = Page(write_report(sweep_frame, judged, tmp_path, (), traces).read_text()).text
    assert "<mlp>hidden=[8, 8]" in text
    assert "7 of its stage results were not read" in text


def test_versions_of_the_records_come_first_and_their_lack_is_said(sweep_frame, judged, tmp_path):
    said = "records of these runs hold no versions"
    assert said in Page(write_report(sweep_frame, judged, tmp_path).read_text()).text
    frame = sweep_frame.assign(torch_version="2.7.1")
    text = Page(write_report(frame, judged, tmp_path).read_text()).text
    assert said not in text
    assert "recorded by the runstorch_version2.7.1" in text
