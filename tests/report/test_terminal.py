import io
import re

import pandas as pd
import pytest
from rich.console import Console

from mmbench.report.terminal import correlation_table
from mmbench.statistics.judge import correlate, ranked

pytestmark = pytest.mark.filterwarnings("error")


def shown(table, width=80):
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()


def test_the_terminal_table_fits_eighty_columns_and_marks_controls(sweep_table):
    text = shown(correlation_table(sweep_table))
    marks = dict.fromkeys(["parameters", "loss_after_k_steps", "lookup_table"], "*")
    marks |= dict.fromkeys(["random", "second_training"], "°")
    found = re.findall(r"^ *([a-z_]+) ([*°]?) *[+−0–] ", text, re.MULTILINE)
    assert found == [(name, marks.get(name, "")) for name in ranked(sweep_table)["metric"]]
    assert "…" not in text


def test_the_terminal_table_shows_names_as_they_are(points):
    rows = points([1, 2, 3], [0.1, 0.2, 0.3], metric="[red]x[/]", dataset="[b]d")
    table = correlate(pd.DataFrame(rows))
    assert "[red]x[/]" in shown(correlation_table(table, group="dataset=[b]d"))
    assert "dataset=[b]d" in shown(correlation_table(table, group="dataset=[b]d"))


def test_the_terminal_table_may_be_empty():
    assert "metric" in shown(correlation_table(correlate(pd.DataFrame())))
