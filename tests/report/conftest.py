"""Records without training, and what is made of them once for all tests of the report."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pandas as pd
import pytest

from mmbench.records.curves import Curve, Traces
from mmbench.report.analyze import analyze
from mmbench.report.figures.draw import draw
from mmbench.report.figures.style import Drawing
from mmbench.report.page import write_report
from mmbench.statistics.judge import judge
from tests.records.synthetic import make_points, make_record, points, record, stored, sweep, sweep_frame, write_store

from .helpers import judge_gain

__all__ = ["points", "record", "stored", "sweep", "sweep_frame"]  # fixtures


@pytest.fixture(scope="session")
def judged(sweep_frame):
    return judge(sweep_frame)


@pytest.fixture(scope="session")
def sweep_table(judged):
    return judged.correlations


@pytest.fixture(scope="session")
def traces():
    line = Curve("digits", "mlp", "net2wider", (0.0, 1.0), (2.0, 1.0))
    return Traces(curves=[line])


@pytest.fixture(scope="session")
def drawings(sweep_frame, judged, traces, tmp_path_factory):
    return draw(sweep_frame, judged, tmp_path_factory.mktemp("figures"), traces)


@pytest.fixture(scope="session")
def written(sweep_frame, judged, drawings, traces, tmp_path_factory):
    """The path of a report of the whole sweep, with all figures."""
    return write_report(sweep_frame, judged, tmp_path_factory.mktemp("report"), drawings, traces)


EVIL = "<img src=x onerror=window.hurt=1><script>window.hurt=1</script>&\u2028</title>]]>{{ 7 * 7 }}"


@dataclass
class Hostile:
    """A report of runs whose names would do harm as HTML, as TeX, as a path and as a template."""

    names: dict[str, str]
    drawings: list[Drawing]
    page: Path


@pytest.fixture(scope="session")
def hostile(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    names = {name: f"{name} $_{{$ {EVIL}" for name in ("model", "dataset", "training", "expansion", "axis")}
    names["metric"] = f"a/b $x$ {EVIL}"
    rows = make_points([1, 2, 3], [0.1, 0.2, 0.3], **names)
    rows += make_points([1, 2, 3], [0.1, 0.2, 0.3], **{**names, "metric": names["metric"].replace("/", "_")})
    rows += make_points([1], [0.1], status="failed", error=EVIL, **names)
    frame = pd.DataFrame(rows)
    judgement = judge_gain(frame)
    drawings = draw(frame, judgement, folder / "figures")
    return Hostile(names, drawings, write_report(frame, judgement, folder, drawings))


LITTLE = {
    "empty": [],
    "failures": [make_record(status="failed", error="out of luck", score=None, gain=None, seed=at) for at in (0, 1)],
    "one": [make_record(score=0.0, gain=0.0)],
}
"""Stores with next to nothing in them."""


@pytest.fixture(scope="session")
def analysed(tmp_path_factory):
    """Analyse a store of `LITTLE`, once."""
    root = tmp_path_factory.mktemp("little")
    return cache(lambda kind: analyze(write_store(LITTLE[kind], root / kind)))
