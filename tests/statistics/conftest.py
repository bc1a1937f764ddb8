"""Synthetic records."""

import pytest

from mmbench.statistics.judge import judge
from tests.records.synthetic import points, record, stored, sweep, sweep_frame, sweep_table  # noqa: F401
from tests.statistics.planted import TRUE, planted


@pytest.fixture(scope="session")
def true():
    """The judgement of a true predictor."""
    return judge(planted(TRUE))
