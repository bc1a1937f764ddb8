"""The manifold family on planted clouds, of which one size alone is the gain."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.studies.family import definitions, family
from benchmarks.studies.family_rules import ADVISED, together
from mmbench.landscape.sizes import Cloud

STEPS = (100, 200)
NETWORKS = [(dataset, model, steps) for dataset in ("digits", "cifar10") for model in ("mlp", "vit") for steps in STEPS]


def record(place: int, at: int, budget: float, generator: np.random.Generator) -> list[dict[str, Any]]:
    """A manifold run and two rivals of one configuration: the gain is how far the two points are apart."""
    dataset, model, steps = NETWORKS[place]
    points = generator.normal(size=(3, 40)) * generator.uniform(0.5, 2)
    everything = np.vstack([np.zeros(40), points])
    apart = np.linalg.norm(everything[:, None] - everything, axis=2)
    walls = np.triu(generator.random((3, 3)), 1)
    cloud = Cloud(apart, apart * generator.uniform(1, 9), walls + walls.T, generator.random((3, 3)),
                  generator.random(3) + 1, float(generator.uniform(1, 9)), 100)  # fmt: skip
    upper = np.triu_indices(3, 1)
    gain = float(apart[1:, 1:][upper].mean())
    common = {
        "status": "done", "dataset": dataset, "model": model, "base_configuration": f"{place}", "seed": 0,
        "configuration": f"{place}-{at}-{budget}", "expansion": f"operator{at}", "arm": "expansion", "budget": budget,
        "parameters": int(100 * budget), "depth": 3, "flops": 5, "train_steps": steps, "train_seconds": 10.0,
        "base_accuracy": 0.5, "gain": gain, "final_accuracy": 0.5 + gain, "axis": "width", "training": "sgd",
        "manifold_survey_seconds": np.nan,
    }  # fmt: skip
    listed = {**cloud.listed(), "line": [1.0] * 5}
    details = {f"manifold_{k}": json.dumps(v) if isinstance(v, list) else v for k, v in listed.items()}
    manifold = {**common, "metric": "manifold", "metric_id": "m", "expected_sign": 1, "score": 0.0,
                "definition": "sgd_branch(K=3, 0.1 of training) | distance", "metric_seconds": 3.0,
                "manifold_survey_seconds": 1.0, **details}  # fmt: skip
    loss = {**common, "metric": "loss_after_k_steps", "metric_id": f"l{steps}", "expected_sign": -1,
            "score": -gain if place % 2 else gain, "metric_seconds": 1.0}  # fmt: skip
    size = {**common, "metric": "parameters", "metric_id": "p", "expected_sign": 1, "score": 100 * budget,
            "metric_seconds": 0.0}  # fmt: skip
    rows = [manifold, loss, size]
    return [{**row, "run_id": f"{place}-{at}-{budget}-{row['metric']}"} for row in rows]


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    runs = [record(place, at, budget, generator) for place in range(8) for at in range(5) for budget in (2.0, 4.0)]
    return pd.DataFrame([row for rows in runs for row in rows])


@pytest.fixture(scope="module")
def two_cells(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["base_configuration"].isin(["0", "1"])]


@pytest.fixture(scope="module")
def found(frame: pd.DataFrame) -> Any:
    return family(frame)


def test_the_planted_definition_is_chosen_and_confirmed(found: Any) -> None:
    first = found.summary.iloc[0]
    assert first["definition"] == "distance by none, unit none"
    assert first["sampler"] == "sgd_branch(K=3, 0.1 of training)"
    assert (first["chosen"], first["confirmed"], first["all"]) == (1, 1, 1)
    assert (first["all_positive"], first["all_cells"], first["chosen_cells"]) == (8, 8, 4)
    assert first["spearman"] == pytest.approx(1)


def test_the_halves_are_a_chequerboard(found: Any) -> None:
    halves = found.cells.drop_duplicates("cell").set_index("cell")["half"]
    assert halves["digits mlp 100 steps"] == halves["digits vit 200 steps"] == halves["cifar10 mlp 200 steps"]
    assert halves["digits mlp 100 steps"] != halves["digits mlp 200 steps"]
    assert sorted(halves.value_counts()) == [4, 4]


def test_luck_is_less_than_the_truth_and_more_than_nothing(found: Any) -> None:
    assert 0.2 < found.luck < 0.9


def test_every_definition_is_judged_in_every_cell(found: Any) -> None:
    judged = found.cells[found.cells["sampler"] != ""]
    labels = {one.label for one in definitions() if not one.size.startswith("star") and one.minus != "symmetry"}
    assert len(labels) > 50
    assert set(judged["definition"]) == labels
    assert set(judged["sampler"]) == {"sgd_branch(K=3, 0.1 of training)", "sgd_branch(K=2, 0.1 of training)"}
    assert (judged["n"] == 10).all()
    interval = judged[judged["definition"] == "distance by none, unit norm"]
    assert (interval["ci_low"] < interval["spearman"]).all()
    assert (interval["spearman"] < interval["ci_high"]).all()


def test_a_smaller_cloud_costs_its_share(found: Any) -> None:
    costs = found.summary.drop_duplicates("sampler").set_index("sampler")["cost"]
    assert costs["sgd_branch(K=3, 0.1 of training)"] == pytest.approx(3 / 10)
    assert costs["sgd_branch(K=2, 0.1 of training)"] == pytest.approx((2 * 2 / 3 + 5 / 12) / 10)


def test_rivals_are_turned_and_their_options_go_with_the_cell(found: Any) -> None:
    loss = found.summary.set_index("definition").loc["loss_after_k_steps"]
    assert loss["all_cells"] == 8
    assert (loss["all"], loss["all_positive"]) == (0, 4)


def test_the_chosen_definition_adds_what_the_rivals_lack(found: Any) -> None:
    rules = found.increments.set_index("rule")
    alone, together = rules.index[-2:]
    assert rules.loc[alone if "sgd" not in alone else "loss_after_k_steps", "mean"] < 0.5
    assert rules.loc[together, "mean"] > 0.95


def test_the_null_of_a_record_is_subtracted(two_cells: pd.DataFrame) -> None:
    frame = two_cells
    lists = [name for name in frame if name.startswith("manifold_") and "seconds" not in name]
    nulls = frame.assign(**{name.replace("manifold_", "manifold_null_"): frame[name] for name in lists})
    nulls["manifold_null_distances"] = nulls["manifold_distances"].map(
        lambda text: json.dumps([length / 2 for length in json.loads(text)]), na_action="ignore"
    )
    summary = family(nulls).summary.set_index(["sampler", "definition"])
    found = summary.loc[("sgd_branch(K=3, 0.1 of training)", "distance by none, unit none, minus symmetry")]
    assert found["all"] == 1  # half of the distance ranks as the distance does


def test_a_seed_that_some_configurations_lack_is_left_out(two_cells: pd.DataFrame, found: Any) -> None:
    """One configuration of one cell has a second seed, of another gain."""
    frame = two_cells
    some = frame[frame["configuration"] == "0-1-2.0"]
    more = some.assign(seed=1, gain=some["gain"] + 9, run_id=some["run_id"] + "again")
    again = family(pd.concat([frame, more], ignore_index=True))
    same = found.cells[found.cells["cell"].isin(again.cells["cell"])].reset_index(drop=True)
    assert len(same)
    pd.testing.assert_frame_equal(again.cells.drop(columns="half"), same.drop(columns="half"))


def test_no_clouds_no_family(frame: pd.DataFrame) -> None:
    assert family(frame[frame["metric"] != "manifold"]) is None
    assert family(frame.drop(columns="manifold_point_losses")) is None
    assert family(frame.iloc[:0]) is None


def test_infinite_barriers_and_broken_records_are_read_as_far_as_they_go(two_cells: pd.DataFrame) -> None:
    broken = two_cells.copy()
    rows = broken.index[broken["metric"] == "manifold"]
    broken.loc[rows[0], "manifold_barriers"] = "[null, 0.0, 0.0]"
    broken.loc[rows[1], "manifold_distances"] = "[1.0, 2.0]"
    cells = family(broken).cells
    gated = cells[(cells["definition"] == "component, eps nats") & (cells["sampler"].str.contains("K=3"))]
    assert not math.isnan(cells["cost"].max())
    assert gated.set_index("cell").loc["digits mlp 100 steps", "n"] == 9


def test_the_mean_rank_of_the_default_and_a_rival() -> None:
    """Inside each budget: ranks 1/3, 2/3, 1 and 1, 2/3, 1/3 in the first, alike in the second."""
    rows = []
    for name, scores in {ADVISED: (1, 2, 3, 5, 6), ("", "jacob_cov"): (30, 20, 10, -2, -1)}.items():
        for number, score in enumerate(scores):
            rows.append({
                "sampler": name[0], "definition": name[1], "cell": "digits", "budget_cell": int(number > 2),
                "number": number, "score": score, "seconds": 1.0, "gain": 0.1 * number,
            })  # fmt: skip
    found = together(pd.DataFrame(rows)).set_index("number")
    assert set(found["definition"]) == {"mean rank of manifold and jacob_cov"}
    assert found["score"].tolist() == pytest.approx([2 / 3, 2 / 3, 2 / 3, 1 / 2, 1])
    assert (found["seconds"] == 2).all()
    assert found["gain"].tolist() == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


def test_the_planted_definition_has_no_regret(found: Any) -> None:
    assert (found.cells["regret"] >= 0).all() and (found.cells["random_regret"] > 0).all()
    assert found.summary["regret"].max() > 0
    first = found.summary.iloc[0]
    assert (first["regret"], first["better_than_random"]) == (0, 8)
