import base64
import hashlib
import io
import json
import re
from itertools import pairwise

import pytest
from PIL import Image

from mmbench.report.page import write_report

from .helpers import Page, data_of

pytestmark = pytest.mark.filterwarnings("error")
IMAGE = "data:image/png;base64,"


@pytest.fixture(scope="module")
def page(written):
    return Page(written.read_text())


def test_the_page_needs_nothing_else_and_runs_no_script_but_its_own(written, page):
    text = re.sub(rf'src="{IMAGE}[A-Za-z0-9+/=]+"', "", written.read_text())
    assert not re.search(r"https?:|//[a-z]|@import|\bsrc=|url\((?!#)", text.replace("http-equiv", ""))
    assert not re.search(r"<[^>]*\son\w+=", text)
    assert not {"link", "iframe", "object", "base"} & set(page.tags)
    data, script = page.scripts
    policy = page.all("meta")[1]["content"]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.startswith("default-src 'none';")
    assert f"script-src 'sha256-{digest}';" in policy
    assert page.all("script")[0]["type"] == "application/json"
    assert json.loads(data)["metrics"]


def test_every_figure_has_words_and_every_table_a_caption_and_scopes(page, sweep_frame):
    drawings = [svg for svg in page.all("svg") if svg.get("role") == "img"]
    assert len(drawings) == 5  # strategies, overview, equal budget, regret, training
    assert all(len(svg["aria-label"]) > 60 for svg in drawings)
    others = [svg for svg in page.all("svg") if svg.get("role") != "img"]
    assert all(svg.get("aria-hidden") == "true" or svg.get("aria-label") for svg in others)
    assert len(page.all("img")) == sweep_frame["metric"].nunique()
    assert all(image["alt"].startswith("Score against gain for ") for image in page.all("img"))
    assert page.tags.count("table") == page.tags.count("caption") > 8
    assert all(cell.get("scope") in ("col", "row") for cell in page.all("th"))


def test_the_scatters_are_small_images(page):
    for image in page.all("img"):
        data = base64.b64decode(image["src"].removeprefix(IMAGE))
        assert len(data) < 40_000
        with Image.open(io.BytesIO(data)) as opened:
            assert [side // 2 for side in opened.size] == [int(image["width"]), int(image["height"])]


def test_headings_are_in_order_and_the_contents_lead_to_sections(page):
    levels = [int(tag[1]) for tag in page.tags if tag in ("h1", "h2", "h3")]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    links = [link["href"] for link in page.all("a")]
    assert len(links) == levels.count(2)
    assert set(links) <= {f"#{name}" for name in page.ids}


def test_no_two_elements_share_an_id_and_figures_refer_to_their_own(written, page):
    assert len(page.ids) == len(set(page.ids)) > 100
    drawn = re.sub(r"<script.*?</script>", "", written.read_text(), flags=re.DOTALL)
    assert {a or b for a, b in re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', drawn)} <= set(page.ids)


def test_the_same_input_gives_the_same_bytes(sweep_frame, judged, drawings, traces, written, tmp_path):
    write_report(sweep_frame, judged, tmp_path, drawings, traces)
    for file in ("report.html", "correlations.tex"):
        assert (tmp_path / file).read_bytes() == (written.parent / file).read_bytes()


def test_text_from_data_is_escaped(hostile):
    page = Page(hostile.page.read_text())
    assert page.tags.count("script") == 2  # the page's data and its own script
    assert "\u2028" not in page.scripts[0]
    assert "<" not in page.scripts[0]
    names = hostile.names
    assert data_of(page)["names"]["operators"] == [names["expansion"]]
    assert all(name in page.text for name in (names["metric"], f"model={names['model']}"))
    assert "{{ 7 * 7 }}" in page.text


def test_an_unfinished_sweep_is_mentioned(sweep_frame, judged, tmp_path):
    frame = sweep_frame.copy()
    frame.attrs["unfinished"] = {"running": 1, "missing": 4}
    assert "not finished: 1 running, 4 missing" in Page(write_report(frame, judged, tmp_path).read_text()).text
