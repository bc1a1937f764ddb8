"""Barriers and gains along the training, read from a store."""

from types import SimpleNamespace

import pandas as pd
import pytest

import mmbench
from mmbench.errors import StoreError
from mmbench.records.barriers import read_barriers
from mmbench.records.curves import read_traces
from mmbench.records.frame import load_records
from mmbench.records.gains import read_gains
from mmbench.report.sections.manifold_grid import ManifoldGrid
from tests.records.landscape import WIDTHS, write_landscape
from tests.records.synthetic import make_record, write_store

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(scope="module")
def landscape(tmp_path_factory):
    return write_landscape(tmp_path_factory.mktemp("landscape") / "results")


def test_the_grid_of_a_folder_is_that_of_its_frame_and_of_two_folders(landscape, tmp_path):
    grid = mmbench.manifold_grid(landscape)
    assert list(grid.columns)[:7] == ["q", "n", "target", "kendall", "spearman", "n_runs", "n_configurations"]
    assert len(grid) == 40
    pd.testing.assert_frame_equal(grid, mmbench.manifold_grid(load_records(landscape)))
    other = write_landscape(tmp_path / "other", seeds=(7,))
    both = mmbench.manifold_grid([landscape, other])
    assert (both["n_runs"] == 25).all()
    assert (both["n_base_models"] == 5).all()
    fixed = [choice for choice in grid.attrs["choices"] if choice["choice"] == "fixed"]
    assert [(choice["q"], choice["n"]) for choice in fixed] == [(0.4, 1000)] * 2


def test_the_stored_score_is_that_of_the_grid(landscape):
    """The record's own score at q = 0.4 and n = 1000 is what the barriers say; later moments have no part in it."""
    frame = load_records(landscape)
    barriers = read_barriers(frame)
    start = frame[(frame["metric"] == "manifold") & (frame["after"] == 0)]
    assert barriers.keys() == set(start["run_id"])
    for row in start.to_dict("records"):
        pair = barriers[row["run_id"]]
        limit = pair.threshold(0.4, 1000)
        score = 100 * ((pair.candidate <= limit).mean() - (pair.base <= limit).mean())
        assert score == pytest.approx(row["score"])


def test_a_damaged_or_missing_file_is_left_out(tmp_path):
    folder = write_landscape(tmp_path / "results", seeds=(0,), metrics=("manifold",), moments=(0,))
    (folder / "stages" / "score" / "0-10" / "tensors.safetensors").write_bytes(b"\x00")
    (folder / "stages" / "score" / "0-12" / "tensors.safetensors").unlink()
    frame = load_records(folder)
    assert len(read_barriers(frame)) == len(WIDTHS) - 2
    (folder / "stages" / "trained" / "0-16" / "history.safetensors").unlink()
    assert len(read_gains(frame)) == len(WIDTHS) - 1


def test_without_barriers_the_grid_is_empty(tmp_path):
    folder = write_store([make_record()], tmp_path / "results")
    grid = mmbench.manifold_grid(folder)
    assert len(grid) == 0
    assert grid.attrs["remark"] == "No barriers are stored: run the metric manifold."
    assert mmbench.manifold_grid(pd.DataFrame()).attrs["remark"] == grid.attrs["remark"]
    assert len(mmbench.manifold_grid(pd.DataFrame())) == 0
    assert read_gains(load_records(folder)) == []


@pytest.mark.parametrize(("nodes", "rows"), [(48, 0), (52, 8)])
def test_too_few_nodes_for_the_grid_are_told(tmp_path, nodes, rows):
    folder = write_landscape(tmp_path / "results", seeds=(0,), nodes=nodes, metrics=("manifold",), moments=(0,))
    grid = mmbench.manifold_grid(folder)
    assert len(grid) == rows
    results = SimpleNamespace(traces=read_traces([folder], load_records(folder)), drawings={})
    content = ManifoldGrid().content(results)
    if rows:
        assert grid.attrs["remark"] == ""
        assert content["choices"].rows
    else:
        assert "begins at 50 nodes, and at most 48 are stored" in grid.attrs["remark"]
        assert "metric.nodes=50" in grid.attrs["remark"]
        assert content == {"choices": None, "remark": grid.attrs["remark"]}


def test_a_frame_of_unknown_origin_is_refused_in_words(landscape):
    frame = load_records(landscape)
    frame.attrs = {}
    with pytest.raises(StoreError, match="does not say which results folder"):
        mmbench.manifold_grid(frame)


def test_gains_along_the_training_start_at_the_base_models_accuracy(landscape):
    curves = read_gains(load_records(landscape))
    assert len(curves) == 20
    for curve in curves:
        assert curve.epochs == tuple(float(epoch) for epoch in range(21))
        assert curve.gains[0] == 0
        assert curve.gains[-1] > 0
