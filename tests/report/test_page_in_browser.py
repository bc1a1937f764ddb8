"""The report in a headless Chromium, driven by browser.py: what a reader sees and can do."""

import pandas as pd
import pytest

from mmbench.statistics.configurations import configurations

from . import browser

pytestmark = pytest.mark.skipif(browser.find() is None, reason="no Chromium on this machine")
POINTS = """[...document.querySelectorAll('.point')].map(point => {
    const place = point.querySelector('path').getAttribute('transform').match(/[-.\\d]+/g).map(Number);
    const {configuration, score, gain} = point.dataset;
    return {configuration, score: Number(score), gain: Number(gain), x: place[0], y: place[1]};
})"""


@pytest.fixture(scope="module")
def chromium():
    found = browser.Browser(browser.find())
    yield found
    found.close()


def choose(chromium, select, text):
    chromium.run(f"""(() => {{
        const select = document.getElementById("{select}");
        select.value = [...select.options].find(option => option.text.startsWith("{text}")).value;
        select.dispatchEvent(new Event("change"));
    }})()""")


def test_it_opens_without_a_complaint_and_asks_for_nothing(chromium, written):
    chromium.open(written)
    assert chromium.complaints() == []
    assert [url for url in chromium.requests() if not url.startswith("data:")] == [written.as_uri()]
    assert chromium.run("document.getElementById('viewer').hidden") is False


@pytest.mark.parametrize("width", [320, 375, 768, 1280])
def test_the_page_never_scrolls_sideways(chromium, written, width):
    chromium.open(written, width)
    assert chromium.run("document.documentElement.scrollWidth") == width
    assert chromium.run("document.querySelector('.wide').scrollWidth") > 300


@pytest.mark.parametrize("metric", ["manifold", "hessian_trace", "random"])
def test_the_points_are_those_of_the_frame_and_stand_where_they_belong(chromium, written, sweep_frame, metric):
    chromium.open(written)
    choose(chromium, "metric", metric)
    shown = pd.DataFrame(chromium.run(POINTS)).set_index("configuration").sort_index()
    units = configurations(sweep_frame, "gain")
    mine = units[units["metric"] == metric].set_index("configuration").sort_index()
    assert list(shown.index) == list(mine.index)
    assert shown["score"].to_list() == pytest.approx(mine["score"].to_list(), rel=1e-5)
    assert shown["gain"].to_list() == pytest.approx(mine["target"].to_list(), rel=1e-5)
    assert shown["x"].corr(mine["score"], method="spearman") == pytest.approx(1)
    assert shown["y"].corr(mine["target"]) == pytest.approx(-1, abs=1e-4)  # pixels are counted downwards
    assert shown["x"].between(46, 410).all()
    assert shown["y"].between(10, 278).all()


def test_filters_leave_only_what_they_name(chromium, written):
    chromium.open(written)
    choose(chromium, "metric", "manifold")
    both = {point["configuration"] for point in chromium.run(POINTS)}
    choose(chromium, "model", "resnet")
    resnet = {point["configuration"] for point in chromium.run(POINTS)}
    assert resnet == {name for name in both if name.startswith("resnet")} < both
    chromium.run(
        "[...document.querySelectorAll('#legend button')].find(b => b.innerText.includes('net2wider')).click()"
    )
    assert {point["configuration"] for point in chromium.run(POINTS)} == resnet - {"resnet-net2wider"}
    assert "5 of 11 configurations shown" in chromium.run("document.getElementById('summary').innerText")


def test_the_pointer_tells_the_run(chromium, written, sweep_frame):
    chromium.open(written)
    choose(chromium, "metric", "manifold")
    chromium.run("document.getElementById('plot').scrollIntoView()")
    box = chromium.run("""(() => {const b = document.querySelector('[data-configuration=mlp-net2wider]')
        .getBoundingClientRect(); return {x: b.x + b.width / 2, y: b.y + b.height / 2}})()""")
    chromium.move(box["x"], box["y"])
    said = chromium.run("document.getElementById('readout').innerText")
    chosen = (sweep_frame["configuration"] == "mlp-net2wider") & (sweep_frame["metric"] == "manifold")
    assert said.startswith("net2wider, width, 2× parameters")
    assert all(run_id[:10] in said for run_id in sweep_frame.loc[chosen, "run_id"])


def test_arrow_keys_walk_through_the_points_in_the_order_of_scores(chromium, written):
    chromium.open(written)
    chromium.run("document.querySelector('.point').focus()")
    order = [point["configuration"] for point in sorted(chromium.run(POINTS), key=lambda point: point["score"])]
    current = "document.activeElement.dataset.configuration"
    walked = [chromium.run(current)]
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft", "End", "ArrowRight", "Home"):
        chromium.key(key)
        walked.append(chromium.run(current))
    assert walked == [order[place] for place in (0, 1, 2, 1, -1, -1, 0)]


def test_without_scripts_the_figures_are_all_there(chromium, written):
    chromium.open(written, scripts=False)
    shown = """[...document.querySelectorAll('figure')].filter(f => f.getBoundingClientRect().height > 80).length"""
    assert chromium.run(shown) == 5 + 5  # strategies, overview, equal budget, regret, training; one scatter per metric
    assert chromium.run("[...document.images].every(image => image.complete && image.naturalWidth > 600)")
    assert chromium.run("document.getElementById('viewer').getBoundingClientRect().height") == 0


def test_with_scripts_the_scatters_are_folded_away(chromium, written):
    chromium.open(written)
    assert chromium.run("document.getElementById('figures').open") is False
    chromium.run("dispatchEvent(new Event('beforeprint'))")
    assert chromium.run("document.getElementById('figures').open") is True  # paper has no viewer


def test_names_from_the_store_are_shown_and_never_run(chromium, hostile):
    chromium.open(hostile.page)
    chromium.run("document.querySelector('.point').focus()")
    assert hostile.names["expansion"].replace("\u2028", " ") in chromium.run(
        "document.getElementById('readout').textContent.replace('\u2028', ' ')"
    )
    assert chromium.run("window.hurt") is None
    assert chromium.run("[...document.images].map(image => image.src.slice(0, 15))") == 2 * ["data:image/png;"]
    assert chromium.complaints() == []


@pytest.mark.parametrize("kind", ["empty", "failures", "one"])
def test_a_report_of_little_opens_too(chromium, analysed, kind):
    chromium.open(analysed(kind).report)
    assert chromium.complaints() == []
    words = "Too few to say" if kind == "one" else "There are no results yet"
    assert words in chromium.run("document.querySelector('.verdict').innerText")
