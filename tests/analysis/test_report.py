import io
import re
from html.parser import HTMLParser

import pandas as pd
import pytest
from rich.console import Console

from mmbench.analysis.plots import draw
from mmbench.analysis.report import correlation_table, verdict, write_report
from mmbench.analysis.statistics import correlate, ranked

pytestmark = pytest.mark.filterwarnings("error")


class Page(HTMLParser):
    """Checks that every tag is closed, and collects what the tests ask about."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.ids, self.labels, self.text = [], [], [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.ids += [value for name, value in attributes if name == "id"]
        self.labels += [value for name, value in attributes if name == "aria-label"]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.ids += [value for name, value in attributes if name == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def written(sweep_frame, sweep_table, tmp_path_factory):
    """A report of the whole sweep, with the figures of two metrics."""
    folder = tmp_path_factory.mktemp("report")
    few = sweep_frame[sweep_frame["metric"].isin(["hessian_trace", "random"])]
    return write_report(sweep_frame, sweep_table, folder, draw(few, correlate(few), folder / "figures"))


def page_of(records, folder):
    frame = pd.DataFrame(records)
    return write_report(frame, correlate(frame), folder).read_text()


def sentences(records):
    frame = pd.DataFrame(records)
    return " ".join(verdict(frame, correlate(frame)))


def shown(table, width=80):
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()


# -- the page ----------------------------------------------------------------------------------------------------------


def test_the_page_is_whole_and_needs_nothing_else(written):
    text = written.read_text()
    page = Page(text)
    assert "http" not in text
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert not re.search(r"url\((?!#)|@import|\bon\w+=", text)
    assert page.tags.count("svg") == 3
    assert [label.split(",")[0].split(":")[0] for label in page.labels] == [
        "Spearman correlation of each metric with the gain",
        "Score against gain for hessian_trace",
        "Score against gain for random",
    ]


def test_figures_on_one_page_share_no_id_and_refer_to_their_own(written):
    text = written.read_text()
    page = Page(text)
    assert len(page.ids) == len(set(page.ids)) > 100
    assert set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', text)) <= {(i, "") for i in page.ids} | {
        ("", i) for i in page.ids
    }


def test_the_same_input_gives_the_same_bytes(sweep_frame, sweep_table, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_report(sweep_frame, sweep_table, tmp_path / name)
    assert (tmp_path / "a/report.html").read_bytes() == (tmp_path / "b/report.html").read_bytes()


def test_text_from_data_is_escaped(points, tmp_path):
    evil = "<script>alert('x')</script>&"
    names = {name: f"{name}{evil}" for name in ("metric", "model", "dataset", "training", "expansion", "axis")}
    rows = points([1, 2, 3], [0.1, 0.2, 0.3], **names) + points([1], [0.1], status="failed", error=evil, **names)
    frame = pd.DataFrame(rows)
    table = correlate(frame)
    text = write_report(frame, table, tmp_path, draw(frame, table, tmp_path)).read_text()
    page = Page(text)
    assert "script" not in page.tags
    assert all(name in page.text for name in (names["metric"], f"model={names['model']}", evil))


def test_reasons_are_counted_and_those_that_differ_in_numbers_are_one(written):
    rows = re.findall(r'<tr><th scope="row">(\d+)</th><td>(\w+)</td><td>([^<]*)</td>', written.read_text())
    assert rows == [
        ("10", "skipped", "no &lt;residual&gt; blocks"),
        ("2", "failed", "for example: diverged at step 12"),
    ]
    assert (
        "120 runs: 108 done, 2 failed, 10 skipped. 0 damaged record files left out." in Page(written.read_text()).text
    )


def test_damaged_files_are_mentioned(sweep_frame, sweep_table, tmp_path):
    frame = sweep_frame.copy()
    frame.attrs["damaged"] = ["a"]
    assert "1 damaged record file left out." in write_report(frame, sweep_table, tmp_path).read_text()


def test_long_lists_of_reasons_are_cut(record, tmp_path):
    text = page_of(
        [record(status="failed", error=f"{'x' * place} {'y' * 400}", seed=place) for place in range(60)], tmp_path
    )
    assert "and 10 more reasons" in Page(text).text
    assert "y" * 301 not in text


# -- the verdict -------------------------------------------------------------------------------------------------------


def two_metrics(points, manifold, rival, n=20, name="parameters", sign=1):
    gains = [0.01 * place for place in range(n)]
    return [*points(manifold, gains), *points(rival, gains, metric=name, expected_sign=sign)]


def nearly(n=20):
    """A good order of n points: neighbours swapped."""
    return [place + (1 if place % 2 == 0 else -1) for place in range(n)]


def useless(n=20):
    """rho near 0."""
    return [abs(place - (n - 1) / 2) + 0.01 * place for place in range(n)]


def test_nothing_to_judge(record):
    assert "nothing to judge" in sentences([record(status="failed")])
    assert "nothing to judge" in " ".join(verdict(pd.DataFrame(), correlate(pd.DataFrame())))


@pytest.mark.parametrize("n", [1, 3, 4, 9])
def test_few_configurations_are_too_few_to_say_anything(points, n):
    said = sentences(points(list(range(n)), [0.1 * place for place in range(n)]))
    assert said.startswith(f"Too few to say: only {n} configuration")
    assert "better" not in said
    assert "direction" not in said


def test_with_six_configurations_the_width_of_an_interval_is_told(points):
    assert "from −0.20 to 0.98" in sentences(points([1, 2, 3, 5, 4, 6], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]))


def test_ten_configurations_are_judged(points):
    said = sentences(points(nearly(10), [0.01 * place for place in range(10)]))
    assert "direction theory expects (95 % interval excludes 0): manifold (0.94 [" in said


def test_a_perfect_order_is_told_as_one(points):
    said = sentences(points(list(range(10)), [0.01 * place for place in range(10)]))
    assert "manifold (1.00 a perfect order)" in said.split("direction theory expects")[1]


def test_manifold_beats_a_useless_baseline(points):
    said = sentences(two_metrics(points, nearly(), useless()))
    assert "Manifold ranks the gain better than parameters" in said
    assert "by chance alone" in said


def test_manifold_is_beaten_by_a_baseline_of_negative_sign(points):
    said = sentences(two_metrics(points, useless(), [-x for x in nearly()], name="loss_after_k_steps", sign=-1))
    assert "Manifold ranks the gain worse than loss_after_k_steps" in said
    assert "loss_after_k_steps (−0.9" in said.split("direction theory expects")[1]


def test_better_than_something_worse_is_not_called_a_predictor(points):
    said = sentences(two_metrics(points, [-x for x in useless()], [-x for x in nearly()]))
    assert "better than parameters" in said
    assert "itself no predictor" in said
    assert "No metric is shown to correlate" in said
    assert "opposite direction to the one expected: parameters" in said


def test_no_difference_is_not_called_one(points):
    rival = nearly()
    rival[0], rival[2] = rival[2], rival[0]
    assert "is not shown to rank the gain better or worse than parameters" in sentences(
        two_metrics(points, nearly(), rival)
    )
    assert "cannot be tested" in sentences(two_metrics(points, nearly(), nearly()))


def test_the_equal_budget_value_is_told_or_said_to_be_missing(points):
    gains = [0.01 * place for place in range(20)]
    assert "Inside groups of equal budget, where size cannot help, manifold has ρ = 0.98" in sentences(
        points(nearly(), gains)
    )
    assert "cannot be said" in sentences(points(nearly(), gains, budget=None))


def test_a_negative_control_that_correlates_is_a_caution(points):
    said = sentences(two_metrics(points, nearly(), nearly(), name="random", sign=0))
    assert "Caution: the interval of random excludes 0 too" in said


def test_metrics_with_few_configurations_are_named(points):
    gains = [0.01 * place for place in range(20)]
    said = sentences(points(nearly(), gains) + points(nearly()[:6], gains[:6], metric="scarce"))
    assert "Too few configurations (under 10) to say anything of scarce." in said
    assert said.startswith("Up to 20 runs of 20 configurations")


def test_a_mixture_of_definitions_is_a_caution(points):
    gains = [0.01 * place for place in range(20)]
    assert "Caution: manifold was measured more than once" in sentences(
        points(nearly(), gains) + points(useless(), gains)
    )


# -- the terminal ------------------------------------------------------------------------------------------------------


def test_the_terminal_table_fits_eighty_columns_and_marks_controls(sweep_table):
    text = shown(correlation_table(sweep_table))
    marks = {"parameters": "*", "loss_after_k_steps": "*", "random": "°"}
    found = re.findall(r"^ *([a-z_]+) ([*°]?) *[+−0] ", text, re.MULTILINE)
    assert found == [(name, marks.get(name, "")) for name in ranked(sweep_table)["metric"]]
    assert "…" not in text


def test_the_terminal_table_shows_names_as_they_are(points):
    rows = points([1, 2, 3], [0.1, 0.2, 0.3], metric="[red]x[/]", dataset="[b]d")
    table = correlate(pd.DataFrame(rows))
    assert "[red]x[/]" in shown(correlation_table(table, group="dataset=[b]d"))
    assert "dataset=[b]d" in shown(correlation_table(table, group="dataset=[b]d"))


def test_the_terminal_table_may_be_empty():
    assert "metric" in shown(correlation_table(correlate(pd.DataFrame())))
