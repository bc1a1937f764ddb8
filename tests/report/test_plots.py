import subprocess
import sys

import matplotlib
import numpy as np
import pandas as pd
import pytest

from mmbench.records.curves import Curve, Traces
from mmbench.report.figures.forest import colour
from mmbench.report.figures.regret import highlighted
from mmbench.report.figures.scatter import axis_scale
from mmbench.report.figures.style import AGREES, CONTRADICTS, OPEN, Looks, power, signed
from mmbench.report.plots import draw
from mmbench.statistics.judge import correlate, judge, ranked

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(scope="module")
def few(sweep_frame):
    """Two metrics are enough to draw."""
    return sweep_frame[sweep_frame["metric"].isin(["manifold", "random"]) & (sweep_frame["model"] == "resnet")]


def curve(operator, losses=(2.0, 1.0), **changes):
    steps = tuple(float(step) for step in range(len(losses)))
    return Curve(
        **{"dataset": "digits", "model": "mlp", "operator": operator, "steps": steps, "losses": losses} | changes
    )


def test_every_figure_is_there_as_png_and_svg(few, tmp_path):
    before = dict(matplotlib.rcParams)
    traces = Traces(
        curves=[curve(""), curve("net2wider")], along=[curve("net2wider")], between=[curve("none", (0.1, 0.0))]
    )
    drawings = draw(few, judge(few), tmp_path / "figures", traces)
    stems = ["overview", "equal_budget", "regret", "scatter_manifold", "scatter_random", "training", "branches"]
    assert [drawing.svg.stem for drawing in drawings] == stems
    names = {f"{stem}.{kind}" for stem in stems for kind in ("png", "svg")}
    assert {path.name for path in (tmp_path / "figures").iterdir()} == names
    assert all(drawing.png.read_bytes()[:4] == b"\x89PNG" for drawing in drawings)
    assert all("</svg>" in drawing.svg.read_text() for drawing in drawings)
    assert "n = 6 configurations (12 runs)" in drawings[3].alt
    assert all(len(drawing.alt) > 60 for drawing in drawings)
    assert dict(matplotlib.rcParams) == before


def test_the_same_records_give_the_same_bytes_and_old_figures_go(points, tmp_path):
    rows = points([1, 2, 3, 5, 4], [0.1, 0.2, 0.3, 0.4, 0.5]) + points(
        [1, 3, 3, 5, 4], [0.1, 0.2, 0.3, 0.4, 0.5], seed=1
    )
    frame = pd.DataFrame(rows)
    draw(frame, judge(frame), tmp_path / "a")
    draw(frame[::-1], judge(frame[::-1]), tmp_path / "b")
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert {"overview.svg", "overview.png", "scatter_manifold.svg", "scatter_manifold.png"} <= set(files)
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)
    renamed = frame.assign(metric="other")
    draw(renamed, judge(renamed), tmp_path / "a")
    assert {path.stem for path in (tmp_path / "a").glob("scatter_*")} == {"scatter_other"}
    draw(frame[:0], judge(frame[:0]), tmp_path / "a")
    assert list((tmp_path / "a").iterdir()) == []


def test_names_may_hold_any_sign(points, tmp_path):
    rows = [
        *points([1, 2, 3], [0.1, 0.2, 0.3], metric="a/b $x$ <c>", expansion="e$_{$", model="m&m"),
        *points([1, 2, 3], [0.1, 0.2, 0.3], metric="a_b $x$ <c>"),
    ]
    frame = pd.DataFrame(rows)
    drawings = draw(frame, judge(frame), tmp_path)
    assert len({drawing.svg for drawing in drawings if drawing.svg.stem.startswith("scatter_")}) == 2
    assert all(drawing.svg.parent == tmp_path for drawing in drawings)


def test_one_configuration_and_no_gain_can_be_drawn(points, tmp_path):
    frame = pd.DataFrame(points([0.0], [0.0]))
    assert "undefined" in draw(frame, judge(frame), tmp_path)[-1].alt


def test_the_regret_figure_names_the_claim_the_baselines_and_the_best_and_no_more_than_eight():
    names = ["manifold", "parameters", "random", *(f"m{place}" for place in range(12))]
    rows = pd.DataFrame({"metric": names, "expected_sign": 1})
    curve = pd.DataFrame({"metric": names, "k": 1, "regret": [5.0, 5, 0, *range(12, 0, -1)], "cost": 0.1})
    assert highlighted(rows, curve) == ["manifold", "parameters", "m11", "m10", "m9", "m8", "m7", "m6"]


@pytest.mark.parametrize(
    ("scores", "scale"),
    [
        ([1, 2, 3], "linear"),
        ([0, 0], "linear"),
        ([0.01, 1, 50], "log"),
        ([-1e-4, 0.3, -0.5, 0.8], "linear"),
        ([-1e6, -1, 0, 1, 2, 1e5], "symlog"),
    ],
)
def test_axes_are_logarithmic_where_scores_span_decades(scores, scale):
    assert axis_scale(np.array(scores, dtype=float))[0] == scale


def test_operators_look_different_even_past_the_palette_and_controls_are_hollow():
    names = [f"e{place}" for place in range(16)] + ["none", "scratch"]
    looks = Looks(names, ["depth", "width"])
    assert len({looks.of(name) for name in names}) == len(names)
    assert [name for name in names if looks.of(name).hollow] == ["none", "scratch"]
    assert looks.of("e0", "depth").shape != looks.of("e0", "width").shape
    labels = [entry.get_label() for entry in looks.legend()]
    assert labels[-4:] == ["none (control)", "scratch (control)", "axis: depth", "axis: width"]


@pytest.mark.parametrize(
    ("scores", "sign", "ink"),
    [
        (range(10), 1, AGREES),
        (range(10), -1, CONTRADICTS),
        (range(10), 0, OPEN),
        (range(9), 1, OPEN),
        ([2, 1, 4, 3, 6, 5, 8, 7, 10, 9], 1, AGREES),
        ([1, 9, 2, 8, 3, 7, 4, 6, 5, 5], 1, OPEN),
    ],
    ids=["expected", "opposite", "no sign", "perfect but too few", "interval without 0", "interval with 0"],
)
def test_colours_say_whether_a_correlation_is_decided(points, scores, sign, ink):
    rows = points(list(map(float, scores)), [0.01 * place for place in range(len(scores))], expected_sign=sign)
    assert colour(ranked(correlate(pd.DataFrame(rows))).iloc[0]) == ink


def test_numbers_in_figures_are_typeset():
    assert [power(value) for value in (0, 1000, -0.01)] == ["0", "10³", "−10⁻²"]
    assert [signed(value) for value in (-0.5, -0.001, float("nan"))] == ["−0.50", "0.00", "–"]


def test_neither_torch_nor_pyplot_is_imported_and_the_package_is_light():
    code = """
import sys
import mmbench.report.analyze
assert not {"pandas", "matplotlib", "scipy"} & set(sys.modules), "heavy"
import mmbench.report.page, mmbench.report.plots
print(sorted({"torch", "matplotlib.pyplot"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
