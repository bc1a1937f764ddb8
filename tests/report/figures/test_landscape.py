"""The figures of barriers, of the grid and along the training: what is drawn, on a store with a planted truth."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import rc_context
from matplotlib.figure import Figure

from mmbench.records.curves import read_traces
from mmbench.records.frame import load_records
from mmbench.report.analyze import analyze
from mmbench.report.figures.barriers import _edges, _raised, histogram, one_base
from mmbench.report.figures.candidates import MOST, candidates, training_axis
from mmbench.report.figures.draw import draw
from mmbench.report.figures.manifold_grid import heat_map
from mmbench.report.figures.moments import scores_and_gains, tau_along
from mmbench.report.figures.plane import Panel, planes
from mmbench.report.figures.style import STYLE
from mmbench.statistics.configurations import at_start, prepare
from mmbench.statistics.judge import judge
from tests.records.landscape import WIDTHS, write_landscape

from ..helpers import Page, judge_gain

pytestmark = pytest.mark.filterwarnings("error")
OWN = {"barriers", "manifold_grid", "tau_along", "gains"}


@pytest.fixture(scope="module")
def analysis(tmp_path_factory):
    return analyze(write_landscape(tmp_path_factory.mktemp("landscape") / "results"))


@pytest.fixture(scope="module")
def runs(analysis):
    return prepare(analysis.frame)


@pytest.fixture(scope="module")
def read(analysis):
    return read_traces(analysis.frame.attrs["stores"], analysis.frame)


def test_a_store_of_the_paper_has_all_figures_sections_and_tables(analysis):
    stems = {path.stem for path in (analysis.folder / "figures").glob("*.svg")}
    assert stems >= OWN
    page = Page(analysis.report.read_text())
    sections = {"barriers", "manifold_grid", "along_training", "score_and_gain", "validation"}
    assert sections <= set(page.ids)
    assert "On average, the former is 1.1" in page.text  # planted: 1 point, and the best of noise
    assert "best of 20" in page.text and "fixed beforehand" in page.text
    assert "cifar10, cnn, paper_adamw, seed 0. Each network is joined to 1,000 copies" in page.text
    for name in ("moments", "validation", "manifold_grid", "manifold_grid_choices"):
        assert len(pd.read_csv(analysis.folder / f"{name}.csv"))
    # The main table holds each metric once, right after the expansion.
    main = page.text.split("Rank correlation of each metric")[1].split("Score against gain")[0]
    assert " after " not in main


def test_sections_without_data_are_left_out(written):
    page = Page(written.read_text())
    assert not {"barriers", "manifold_grid", "along_training", "score_and_gain", "validation"} & set(page.ids)


def test_the_same_store_gives_the_same_bytes(analysis, read, tmp_path):
    judgement = judge_gain(analysis.frame)
    draw(analysis.frame, judgement, tmp_path, read)
    for stem in OWN:
        assert (tmp_path / f"{stem}.svg").read_bytes() == (analysis.folder / "figures" / f"{stem}.svg").read_bytes()


def test_the_histogram_counts_every_node_and_marks_the_threshold(runs, read):
    chosen = one_base(at_start(runs), read.barriers)
    assert len(chosen) == len(WIDTHS)
    assert chosen["seed"].nunique() == 1
    with rc_context(STYLE):
        figure = histogram(chosen, read.barriers)
    upper, lower = figure.axes
    for patch in upper.patches:  # one for each network, and the filling of the base model's
        assert sum(patch.get_data().values) == pytest.approx(100)
    assert len(upper.patches) == len(WIDTHS) + 2
    pair = read.barriers[str(chosen["run_id"].iloc[0])]
    assert upper.lines[0].get_xdata()[0] == pair.threshold(0.4, 1000)
    base = lower.lines[0]
    x, y = base.get_xdata(), base.get_ydata()
    below = y[np.searchsorted(x, pair.threshold(0.4, 1000), side="right") - 1]
    assert below == pytest.approx(40)  # the metric is read from here


def test_zeros_have_a_place_of_their_own_and_equal_barriers_can_be_drawn():
    mixed = np.concatenate([np.zeros(30), np.geomspace(1e-3, 1e-1, 70)])
    zero, edges = _edges(mixed)
    counts = np.histogram(_raised(mixed, zero, edges), edges)[0]
    assert 30 <= counts[0] <= 31  # the smallest of the others may lie below the axis
    assert counts[1] == 0
    assert counts.sum() == 100
    for values in (np.zeros(5), np.full(5, 0.3), np.array([0.3, 0.4])):
        zero, edges = _edges(values)
        assert np.histogram(_raised(values, zero, edges), edges)[0].sum() == len(values)
        assert (np.diff(edges) > 0).all()


def test_the_heat_map_frames_the_fixed_choice(read):
    with rc_context(STYLE):
        figure = heat_map(read.grid)
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["50", "100", "250", "500", "1000"]
    assert len(axes.texts) == 20
    frame = next(patch for patch in axes.patches if patch.get_label() == "fixed beforehand")
    x, y = frame.get_center()
    assert (round(x), round(y)) == (4, 3)


def test_a_grid_with_taus_of_zero_shows_them(read):
    table = read.grid.table.assign(kendall_within=0.0)
    with rc_context(STYLE):
        axes = heat_map(type(read.grid)(table, read.grid.choices)).axes[0]
    assert [text.get_text() for text in axes.texts] == ["0.00"] * 20


def test_tau_along_the_training_has_a_line_per_metric(analysis):
    with rc_context(STYLE):
        axes = tau_along(analysis.judgement.moments).axes[0]
    lines = {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}
    assert set(lines) == {"manifold", "synflow", "jacob_cov", "grad_norm", "parameters"}
    assert lines["synflow"].get_xdata().tolist() == [0, 1, 2, 5, 10, 20]
    assert lines["parameters"].get_xdata().tolist() == [0]


def test_without_any_tau_along_the_training_there_is_no_figure(analysis):
    """Two expansions of one base model have no correlation."""
    moments = analysis.judgement.moments.assign(kendall=np.nan, kendall_within=np.nan)
    assert tau_along(moments) is None


def test_scores_and_gains_are_means_over_seeds(runs, read):
    with rc_context(STYLE):
        figure = scores_and_gains(runs, read.gains)
    scores, gains = figure.axes
    labels = [line.get_label() for line in gains.lines if not line.get_label().startswith("_")]
    assert labels == [f"net2wider {width / 8:g}×" for width in WIDTHS]
    widest = next(line for line in scores.lines if line.get_label() == "net2wider 4×")
    rows = runs[(runs["measured"] == "manifold") & (runs["budget"] == 4) & (runs["after"] == 0)]
    assert widest.get_ydata()[0] == pytest.approx(rows["score"].mean())
    assert scores_and_gains(at_start(runs), []) is None


def test_where_training_stopped_early_only_shared_epochs_are_averaged(runs, read):
    cut = [type(curve)(curve.run_id, curve.epochs[:9], curve.gains[:9]) if not place else curve
           for place, curve in enumerate(read.gains)]  # fmt: skip
    with rc_context(STYLE):
        gains = scores_and_gains(runs, cut).axes[1]
    lengths = sorted(len(line.get_xdata()) for line in gains.lines if not line.get_label().startswith("_"))
    assert lengths == [9, 21, 21, 21, 21]


def test_operators_have_colours_and_sizes_styles(points):
    names = [f"op{place % 3}" for place in range(12)]
    rows = points([1.0] * 12, [0.1] * 12, expansion=names, budget=[float(2 + place // 3) for place in range(12)])
    looks = candidates(prepare(pd.DataFrame(rows)))
    assert len(looks) == MOST
    first = {look["label"].split()[0]: look["color"] for look in looks.values()}
    assert len(set(first.values())) == 3
    same = points([1.0] * 2, [0.1] * 2, parameters=[1000, 2000])
    labels = [look["label"] for look in candidates(prepare(pd.DataFrame(same))).values()]
    assert labels == ["net2wider, 1,000 parameters", "net2wider, 2,000 parameters"]


@pytest.mark.parametrize("last", [0.0, 3.0, 20.0, 500.0])
def test_the_axis_of_a_training_shows_zero_and_its_end(last, runs):
    axes = Figure().subplots()
    training_axis(axes, last or 1.0, "epochs")
    low, high = axes.get_xlim()
    assert low < 0 and high > last


def test_planes_share_one_scale():
    def panel(row, column, side):
        at = np.linspace(0, side, 4)
        losses = np.outer(at + 1, at + 1)
        losses[0, 0] = np.inf  # a network that diverges there
        return Panel(row, column, np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), at, at, losses)

    panels = [panel("base", "", 1.0), panel("big", "before training", 3.0), panel("big", "after training", 3.0)]
    with rc_context(STYLE):
        figure = planes(panels, ["a", "b", "c"])
    shown = [axes for axes in figure.axes[:4] if axes.get_visible()]
    assert len(shown) == 3
    assert {round(float(np.ptp(axes.get_xlim())), 9) for axes in shown} == {3.0}


def test_an_unfinished_sweep_is_drawn_as_far_as_it_goes(tmp_path):
    one = analyze(write_landscape(tmp_path / "one", seeds=(0,), nodes=60, moments=(0, 1)))
    assert {path.stem for path in (one.folder / "figures").glob("*.svg")} >= OWN
    frame = load_records(tmp_path / "one")
    assert judge(frame).moments["kendall"].notna().any()
    assert judge(frame).moments["within_low"].isna().all()
