import subprocess
import sys

import matplotlib
import pandas as pd
import pytest

from mmbench.report.figures.draw import draw

from ..helpers import judge_gain

pytestmark = pytest.mark.filterwarnings("error")
METRICS = ["hessian_trace", "loss_after_k_steps", "manifold", "parameters", "random"]


def test_every_figure_is_there_as_png_and_svg(drawings):
    stems = [drawing.svg.stem for drawing in drawings]
    assert [*stems[:4], stems[-1]] == ["overview", "equal_budget", "regret", "strategies", "training"]
    assert sorted(stems[4:-1]) == [f"scatter_{metric}" for metric in METRICS]
    names = {f"{stem}.{kind}" for stem in stems for kind in ("png", "svg")}
    assert {path.name for path in drawings[0].svg.parent.iterdir()} == names
    assert all(drawing.png.read_bytes()[:4] == b"\x89PNG" for drawing in drawings)
    assert all("</svg>" in drawing.svg.read_text() for drawing in drawings)
    assert "n = 7 (14 runs)" in drawings[stems.index("scatter_manifold")].alt
    assert all(len(drawing.alt) > 60 for drawing in drawings)


def test_the_same_records_give_the_same_bytes_and_old_figures_go(points, tmp_path):
    gains = [0.1, 0.2, 0.3, 0.4, 0.5]
    frame = pd.DataFrame([*points([1, 2, 3, 5, 4], gains), *points([1, 3, 3, 5, 4], gains, seed=1)])
    before = dict(matplotlib.rcParams)
    draw(frame, judge_gain(frame), tmp_path / "a")
    draw(frame[::-1], judge_gain(frame[::-1]), tmp_path / "b")
    assert dict(matplotlib.rcParams) == before
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert {"overview.svg", "overview.png", "scatter_manifold.svg", "scatter_manifold.png"} <= set(files)
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)
    draw(frame[:0], judge_gain(frame[:0]), tmp_path / "a")
    assert list((tmp_path / "a").iterdir()) == []


def test_names_may_hold_any_sign(hostile):
    scatters = {drawing.svg for drawing in hostile.drawings if drawing.svg.stem.startswith("scatter_")}
    assert len(scatters) == 2
    assert {path.parent for path in scatters} == {hostile.page.parent / "figures"}
    assert all(path.exists() for path in scatters)


def test_neither_torch_nor_pyplot_is_imported_and_the_package_is_light():
    """Whatever the store itself needs to read tensors."""
    code = """
import sys
from unittest.mock import MagicMock
import mmbench
assert not {"pandas", "matplotlib", "scipy", "torch"} & set(sys.modules), "heavy"
sys.modules["mmbench.store.store"] = MagicMock()
import mmbench.report.analyze
print(sorted({"torch", "matplotlib.pyplot"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
