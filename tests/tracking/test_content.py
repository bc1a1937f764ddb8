"""What a W&B run holds, before any client has seen it."""

from __future__ import annotations

import json
import math

import pandas as pd
import pytest

from mmbench import load_records
from mmbench.execute import execute
from mmbench.store.files import plain
from mmbench.store.store import Store, look
from mmbench.tracking.analysis import MOST_ROWS, table
from mmbench.tracking.content import LONGEST, POINTS, Models, key_of_model, losses_of, scores, thinned
from mmbench.tracking.ledger import MOST_RUNS, Ledger
from mmbench.tracking.messages import too_many
from tests.launcher.small import DIVERGES, small
from tests.tracking.conftest import RUNS, offline


def models_of(root):
    models = Models(root)
    models.look()
    return models


def test_every_model_is_there_once_with_all_of_its_scores(finished):
    models = models_of(finished[0])
    frame = load_records(finished[0])
    done = frame[frame["status"] == "done"]
    assert len(models.records) == 5
    contents = [models.content(key) for key in models.records]
    assert len({content.id for content in contents}) == 5
    found = {(c.config["configuration"], c.config["seed"]): c for c in contents if not c.failed}
    for (configuration, seed), rows in done.groupby(["configuration", "seed"]):
        content = found.pop((configuration, seed))
        for row in rows.to_dict("records"):
            assert content.summary[f"score/{row['metric']}"] == row["score"]
            assert content.summary[f"score/{row['metric']}/stderr"] == row["score_stderr"]
            assert content.summary[f"score/{row['metric']}/seconds"] == row["metric_seconds"]
            for name in ("gain", "final_accuracy", "parameters", "base_accuracy", "train_seconds"):
                assert content.summary[name] == row[name]
            for name in ("model", "dataset", "expansion", "budget", "training", "factor"):
                assert content.config[name] == row[name]
    assert not found


def test_the_history_is_the_loss_of_both_trainings(finished):
    run = RUNS[0]
    content = models_of(finished[0]).content(key_of_model(run.identity()))
    store = Store(finished[0])
    for name, kind, inputs in (("expanded", "trained", run.trained_inputs()), ("base", "base", run.base_inputs)):
        losses = store.stage(kind, inputs, lambda: pytest.fail("it is stored")).tensors("history")["losses"].tolist()
        assert [row[f"loss/{name}"] for row in content.history] == losses
    assert [row["step"] for row in content.history] == [1, 2, 3, 4, 5]


def test_options_are_those_of_the_run(finished):
    run = RUNS[0]
    options = models_of(finished[0]).content(key_of_model(run.identity())).config["options"]
    assert options["training"]["lr"] == run.training.lr
    assert options["model"] == {"name": "mlp", "hidden": "[4]"}
    assert options["expansion"]["name"] == "zero_pad"


def test_a_model_that_diverged_says_so_and_has_no_gain(finished):
    content = models_of(finished[0]).content(key_of_model(DIVERGES.identity()))
    assert content.failed
    assert "diverged" in content.summary["error/parameters"]
    assert "gain" not in content.summary


def test_new_and_changed_records_are_seen_and_old_ones_are_not_read_again(results, monkeypatch):
    models = models_of(results)
    before = models.content(key_of_model(RUNS[0].identity()))
    added = small(5)
    execute(added, Store(results))
    read = []
    monkeypatch.setattr("mmbench.tracking.content.look", lambda path: read.append(path) or look(path))
    assert key_of_model(added.identity()) in models.look()
    assert [path.stem for path in read] == [added.run_id]
    assert models.content(key_of_model(RUNS[0].identity())).digest == before.digest


def test_several_definitions_of_a_metric_stand_side_by_side():
    rows = [
        {
            "metric": "sharpness",
            "metric_id": f"{i}bcdef01",
            "definition": f"rho={i}",
            "status": "done",
            "score": float(i),
        }
        for i in (1, 2)
    ]
    found = scores([{**row, "score_stderr": None, "metric_seconds": 1.0} for row in rows])
    assert found["score/sharpness-1bcdef"] == 1
    assert found["score/sharpness-2bcdef"] == 2
    assert found["definition/sharpness-2bcdef"] == "rho=2"
    assert "score/sharpness" not in found


def test_values_stay_below_what_wandb_takes(finished):
    models = models_of(finished[0])
    key = key_of_model(RUNS[0].identity())
    for record in models.records[key].values():
        record |= {"error": "x" * 5_000_000, "status": "failed", "final_loss": math.nan, "dataset": "d" * 300}
    content = models.content(key, ["t" * 64])
    everything = json.dumps([content.summary, content.config, content.history], allow_nan=False)
    assert len(everything) < 1_000_000
    assert len(content.summary["error/parameters"]) == LONGEST + 3
    assert all(1 <= len(tag) <= 64 for tag in content.tags)
    assert len(content.name) <= 128
    assert "final_loss" not in content.summary


@pytest.mark.parametrize("count", [0, 1, POINTS - 1, POINTS, POINTS + 1, 12_345])
def test_thinned_curves_keep_the_mean_and_the_last_step(count):
    losses = [math.sin(i) + 2 for i in range(count)]
    steps, means = thinned(losses)
    assert len(steps) == len(means) == min(count, POINTS)
    if count:
        assert steps[-1] == count
        shares = [b - a for a, b in zip([0, *steps], steps, strict=False)]
        assert math.isclose(sum(m * s for m, s in zip(means, shares, strict=True)), sum(losses))


def test_a_damaged_curve_is_no_curve(results):
    for path in results.glob("stages/*/*/history.safetensors"):
        path.write_bytes(b"no tensors")
        assert losses_of(path.parent) == []
    assert models_of(results).content(key_of_model(RUNS[0].identity())).history == []


def test_a_table_has_nulls_for_what_is_missing_and_no_more_rows_than_wandb_takes():
    frame = pd.DataFrame(
        {
            "a": pd.array([1, None], dtype="Int64"),
            "b": pd.array(["x" * 9999, None], dtype="string"),
            "c": [0.5, float("nan")],
            "d": pd.array([True, None], dtype="boolean"),
        }
    )
    found = table(frame)
    assert found.rows == [[1, "x" * LONGEST + "...", 0.5, True], [None, None, None, None]]
    assert len(table(pd.DataFrame({"a": range(MOST_ROWS + 5)})).rows) == MOST_ROWS
    json.dumps(plain(found.rows))


def test_a_project_of_too_many_runs_is_reported(tmp_path, monkeypatch):
    assert too_many(tmp_path, offline(), MOST_RUNS) is None
    monkeypatch.setattr(Ledger, "count", lambda self: MOST_RUNS + 1)
    assert "10,001 W&B runs in tracker.project = 'growing'" in too_many(tmp_path, offline(project="growing"), 3)


def test_places_do_not_share_notes(tmp_path):
    folders = {Ledger(tmp_path, offline(project=p)).folder for p in ("a", "b", "a b", "a_b")}
    assert len(folders) == 4
    one, other = Ledger(tmp_path, offline(project="a")), Ledger(tmp_path, offline(project="b"))
    one.write("0" * 16, {"digest": "d", "where": "offline", "folder": "f"})
    assert one.holds("0" * 16, "d", "offline")
    assert not one.holds("0" * 16, "d", "online"), "it lies offline only"
    assert not one.holds("0" * 16, "e", "offline"), "it has grown"
    assert not other.holds("0" * 16, "d", "offline")
    (one.files / "f").mkdir(parents=True)
    (one.files / "f" / "run-0.wandb.synced").touch()
    assert one.holds("0" * 16, "d", "online"), "wandb sync has uploaded it"
    assert one.count() == 1
