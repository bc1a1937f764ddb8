"""`mmbench plane`: from a store to a figure, and what it says where it cannot."""

from __future__ import annotations

import pandas as pd
import pytest

from mmbench.cli.plane import MOST, _chosen
from mmbench.errors import StoreError
from mmbench.records.frame import load_records
from tests.records.synthetic import make_record, write_store

TINY = ["model.hidden=[5]", "dataset.train_size=200", "training.steps=20", "training.warmup_steps=2"]


def test_three_seeds_become_a_figure_with_the_networks_own_losses(mmbench_here, tmp_path):
    sweep = [*TINY, "metric=parameters", "expansion=zero_pad", "seed=0,1,2"]
    assert mmbench_here("run", "-m", *sweep).returncode == 0
    done = mmbench_here("plane", "points=5", "images=100")
    assert done.returncode == 0, done.stderr
    figure = tmp_path / "results" / "analysis" / "plane.png"
    assert str(figure) in done.stdout.replace("\n", "")
    assert figure.read_bytes()[:4] == b"\x89PNG"
    assert "</svg>" in figure.with_suffix(".svg").read_text()
    table = pd.read_csv(figure.with_suffix(".csv"))
    panels = table.fillna("").groupby(["network", "moment"], sort=False).size()
    assert [moment for _, moment in panels.index] == ["", "before training", "after training"]
    assert (panels == 25).all()
    spans = table.fillna("").groupby(["network", "moment"])[["x", "y"]].agg(lambda values: values.max() - values.min())
    assert spans.to_numpy().max() == pytest.approx(spans.to_numpy().min())  # one scale for all
    assert table["loss"].between(0, 100).all()

    run = load_records(tmp_path / "results")["run_id"].iloc[0]
    matched = mmbench_here("plane", f"run={run}", "points=3", "images=50", "match=true", "out=matched.png")
    assert matched.returncode == 0, matched.stderr
    assert (tmp_path / "matched.svg").is_file()
    assert not table["loss"].equals(pd.read_csv(tmp_path / "matched.csv")["loss"])

    for arguments, message in (
        (["points=1"], "points = '1' is not allowed: must be a whole number from 2 to 400"),
        (["statistics=some"], "statistics = 'some' is not allowed: must be recompute or keep"),
        (["expansion=nothing"], "has finished runs of zero_pad"),
        (["run=nothing"], "run = 'nothing' names 0 finished runs"),
        (["out=figure.pdf"], "must end with .png or .svg"),
        (["match=maybe"], "match = 'maybe' is not allowed"),
    ):
        wrong = mmbench_here("plane", *arguments)
        assert wrong.returncode == 2
        assert message in wrong.stderr
        assert "Traceback" not in wrong.stderr


def rows(seeds=(0, 1, 2), expansion="net2wider", budget=2.0, **changes):
    return [
        make_record(expansion=expansion, budget=budget, parameters=round(1000 * budget), seed=seed, arm="expansion",
                    configuration=f"{expansion}{budget}", base_configuration="base", **changes)
        for seed in seeds
    ]  # fmt: skip


def test_two_seeds_are_too_few(tmp_path):
    with pytest.raises(StoreError, match="three seeds"):
        _chosen(write_store(rows(seeds=(0, 1)), tmp_path / "results"), {})


def test_controls_are_drawn_only_if_they_are_named(tmp_path):
    control = [{**record, "arm": "control"} for record in rows(expansion="none", budget=1.0)]
    root = write_store([*rows(), *control], tmp_path / "results")
    assert set(_chosen(root, {})["expansion"]) == {"net2wider"}
    assert set(_chosen(root, {"expansion": "none"})["expansion"]) == {"none"}


def test_of_many_expansions_some_are_drawn_from_the_smallest_to_the_largest(tmp_path):
    many = [record for budget in range(2, 10) for record in rows(seeds=(0, 1, 2, 3), budget=float(budget))]
    many += rows(seeds=(4, 5, 6), metric="random")  # the first three seeds that all have
    chosen = _chosen(write_store(many, tmp_path / "results"), {})
    assert len(chosen) == 3 * MOST
    assert sorted(chosen["budget"].unique())[:: MOST - 1] == [2, 9]
    assert set(chosen["seed"]) == {0, 1, 2}
