"""Numbers, counts and names as text."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from mmbench import text


@pytest.mark.parametrize("missing", [None, math.nan, pd.NA, float("nan")])
@pytest.mark.parametrize("show", [text.signed, text.number, text.percent, text.points, text.probability])
def test_what_is_missing_is_a_dash(show, missing):
    assert show(missing) == "–"
    assert text.interval(missing, 1.0) == text.interval(1.0, missing) == "–"


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (text.signed(-0.004), "0.00"),
        (text.signed(-0.5), "−0.50"),
        (text.interval(-0.1, 0.624), "[−0.10, 0.62]"),
        (text.number(1234.6), "1235"),
        (text.number(-1.2e-7), "−1.2e−7"),
        (text.number(1.2e9), "1.2e9"),
        (text.number(0.123456), "0.123"),
        (text.percent(0.27), "27 %"),
        (text.points(-0.0123), "−1.23"),
        (text.probability(0.0001), "<0.001"),
        (text.expected(-1), "−"),
        (text.expected(pd.NA), "0"),
        (text.power(-0.01), "−10⁻²"),
        (text.power(0), "0"),
        (text.count(1, "run"), "1 run"),
        (text.count(2000, "run"), "2,000 runs"),
        (text.listed(["a"]), "a"),
        (text.listed("abc"), "a, b and c"),
        (text.listed("abcdef", most=2), "a, b and 4 more"),
        (text.shortened("x" * 40, 5), "xxxx…"),
        (text.metric_name("manifold@3f"), "manifold"),
        (text.file_stem("snip"), "snip"),
    ],
)
def test_each_value_has_its_form(shown, expected):
    assert shown == expected


def test_file_names_of_two_metrics_never_collide():
    assert text.file_stem("a/b") != text.file_stem("a:b")
