import pandas as pd
import pytest

from mmbench.report.figures.forest import colour
from mmbench.report.figures.style import AGREES, CONTRADICTS, OPEN
from mmbench.statistics.judge import ranked

from ..helpers import judge_gain

CASES = {
    "expected": (range(10), 1, AGREES),
    "opposite": (range(10), -1, CONTRADICTS),
    "no sign": (range(10), 0, OPEN),
    "perfect": (range(5), 1, AGREES),
    "perfect but too few": (range(4), 1, OPEN),
    "interval without 0": ([2, 1, 4, 3, 6, 5, 8, 7, 10, 9], 1, AGREES),
    "interval with 0": ([1, 9, 2, 8, 3, 7, 4, 6, 5, 5], 1, OPEN),
}


@pytest.fixture(scope="module")
def rows(points):
    """The correlations of all cases, each as a metric of its own."""
    records = [
        record
        for name, (scores, sign, _) in CASES.items()
        for record in points(
            list(map(float, scores)), [0.01 * at for at in range(len(scores))], metric=name, expected_sign=sign
        )
    ]
    return ranked(judge_gain(pd.DataFrame(records)).correlations).set_index("metric")


@pytest.mark.parametrize("name", CASES)
def test_colours_say_whether_a_correlation_is_decided(rows, name):
    assert colour(rows.loc[name]) == CASES[name][2]
