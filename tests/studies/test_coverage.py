"""Standard errors cover what they estimate, on networks on which no metric was tuned: a quick version of the study."""

from __future__ import annotations

import pytest

from benchmarks.studies.coverage import CASES, rows
from mmbench.metrics.base import METRICS

QUICK = {"probes": 3, "steps": 16, "directions": 6, "draws": 4, "nodes": 3, "images": 48}
LEAST = 7
"""Of 10 seeds: fewer have a probability of 0.001 if the coverage is 0.95."""


@pytest.mark.parametrize(
    "metric", ["effective_dimension", "negative_mass", "basin_volume", "barrier_height", "injected_randomness", "zen"]
)
def test_the_interval_contains_the_value(metric: str) -> None:
    (row,) = rows([metric], ["mlp"], 10, **QUICK)
    assert not row.reason
    assert row.covered * 10 >= LEAST
    if metric not in ("effective_dimension", "negative_mass"):  # theirs covers a bias, too
        assert 0.5 < row.ratio < 3


def test_the_study_knows_its_metrics() -> None:
    assert set(CASES) <= set(METRICS.names())
