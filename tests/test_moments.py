"""Metrics along the training of the expanded model, several trainings of it, and what is measured on the base model."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from safetensors.torch import load_file

from mmbench.data.base import load_data
from mmbench.errors import UndefinedError
from mmbench.execute import execute
from mmbench.expansions.scratch_matched import ScratchMatched
from mmbench.metrics.base import Estimate, Metric
from mmbench.metrics.manifold import Manifold
from mmbench.metrics.training_loss import TrainingLoss
from mmbench.run import note_moments
from mmbench.store.store import Store
from mmbench.training.loop import evaluate
from mmbench.training.recipes import SGD
from tests.test_run import a_run, store  # noqa: F401, a fixture

EPOCH = 3  # steps: 200 images in batches of 64


def at(moment, **changes):
    return a_run(metric=TrainingLoss(images=200, after=moment), **changes)


def test_a_metric_at_a_moment_is_that_of_the_network_after_so_many_steps(store):  # noqa: F811
    """The recipe's own length decides its schedule, so the loss after k steps is in the training's curve."""
    record = execute(at(5), store)
    assert record["status"] == "done", record
    assert (record["after"], record["after_epochs"]) == (5, pytest.approx(5 / EPOCH))
    assert 0 < record["after_seconds"] <= record["train_seconds"]
    folder = store.root / "stages" / "snapshot"
    (snapshot,) = folder.iterdir()
    run = at(5)
    model = run.target().architecture.build(run.dataset.shape())
    model.load_state_dict(load_file(snapshot / "weights.safetensors"))
    loss = evaluate(model, load_data(run.dataset, "cpu").train).loss
    assert record["score"] == pytest.approx(loss, rel=1e-5)
    assert record["score"] != execute(at(0), store)["score"]


def test_moments_that_were_noted_before_the_training_cost_no_second_one(store):  # noqa: F811
    runs = [at(moment) for moment in (0, 4, "1epochs", "2epochs")]
    note_moments(store, runs)
    records = [execute(run, store) for run in runs]
    assert store.computed == {"base": 1, "expanded": 1, "score": 4, "trained": 1, "snapshot": 3}
    assert [record["after"] for record in records] == [0, 4, EPOCH, 2 * EPOCH]
    assert len({record["gain"] for record in records}) == 1
    assert len({record["score"] for record in records}) == 4


def test_a_later_question_goes_on_from_the_last_snapshot(store, monkeypatch):  # noqa: F811
    execute(at(10), store)
    steps = []
    original = SGD.learning_rate
    monkeypatch.setattr(SGD, "learning_rate", lambda self, step: steps.append(step) or original(self, step))
    later = execute(at(13), store)
    assert steps == [10, 11, 12]
    elsewhere = Store(store.root.parent / "elsewhere")
    elsewhere.prepare()
    assert execute(at(13), elsewhere)["score"] == later["score"]


def test_a_later_question_adds_no_evaluation_that_patience_would_count(store):  # noqa: F811
    recipe = SGD(steps=20, warmup_steps=2, validate_every=5)
    for moment in (10, 11, 12, 13):
        assert execute(at(moment, training=recipe), store)["status"] == "done"
    evaluated = [
        load_file(path)["validation_steps"].tolist()
        for path in sorted((store.root / "stages" / "snapshot").glob("*/history.safetensors"))
    ]
    assert evaluated == [[0, 5, 10]] * 4


def test_a_moment_after_the_end_is_skipped_with_its_reason(store):  # noqa: F811
    record = execute(at(21), store)
    assert record["status"] == "skipped"
    assert "metric.after = 21 is after the end of the training, which takes 20 steps" in record["error"]
    assert not store.computed, "it is known before any work"


@pytest.mark.parametrize(
    ("changes", "reached"),
    [
        ({"moment": 20}, True),
        ({"moment": "6epochs"}, True),
        ({"moment": "7epochs"}, False),
        ({"moment": 21, "training": SGD(epochs=7, warmup_steps=2)}, True),
        ({"moment": 22, "training": SGD(epochs=7, warmup_steps=2)}, False),
        ({"moment": 21, "expansion": ScratchMatched()}, True),
        ({"moment": 41, "expansion": ScratchMatched()}, False),
    ],
    ids=str,
)
def test_a_moment_is_compared_with_the_training_before_any_work(changes, reached):
    run = at(**changes)
    if reached:
        run.target()
    else:
        with pytest.raises(UndefinedError, match="is after the end of the training"):
            run.target()


@pytest.mark.parametrize("layer", ["foo", "fc9", "fc1.0"])
def test_a_wrong_layer_is_told_before_any_work(store, layer):  # noqa: F811
    record = execute(a_run(metric=Manifold(layer=layer)), store)
    assert record["status"] == "skipped"
    assert f"metric.layer = {layer}: the network has no such channel group; it has" in record["error"]
    assert not store.computed


def test_repeated_trainings_share_everything_but_the_order_of_the_images(store):  # noqa: F811
    once = execute(a_run(training=SGD(steps=20, warmup_steps=2)), store)
    thrice = execute(a_run(training=SGD(steps=20, warmup_steps=2, repeats=3)), store)
    assert store.computed == {"base": 1, "expanded": 1, "score": 1, "trained": 3}
    assert thrice["run_id"] != once["run_id"]
    assert (once["repeats"], once["gain_stderr"], thrice["repeats"]) == (1, None, 3)
    finals = [stage["values"]["accuracy"] for stage in trainings(store)]
    assert len(set(finals)) > 1
    assert thrice["final_accuracy"] == pytest.approx(sum(finals) / 3)
    deviation = torch.tensor(finals, dtype=torch.float64).std()
    assert thrice["gain_stderr"] == pytest.approx(float(deviation) / 3**0.5)


def trainings(store):  # noqa: F811
    from mmbench.store.files import read_json

    return [read_json(path) for path in (store.root / "stages" / "trained").glob("*/result.json")]


def test_the_best_validation_gain_is_the_curves_maximum_minus_the_bases(store):  # noqa: F811
    record = execute(a_run(training=SGD(steps=40, warmup_steps=2, keep="best", validate_every=5)), store)
    curves = [
        load_file(store.root / "stages" / kind / record[f"{kind}_id"] / "history.safetensors")["validation_accuracy"]
        for kind in ("base", "trained")
    ]
    base, large = (float(curve.max()) for curve in curves)
    assert record["best_validation_gain"] == pytest.approx(large - base)
    assert record["base_best_validation_accuracy"] == base == record["base_validation_accuracy"]  # the kept weights'
    assert record["final_validation_accuracy"] == large


def test_patience_may_stop_base_models_alone(store):  # noqa: F811
    impatient = SGD(steps=60, warmup_steps=2, patience=1, min_delta=0.9, stops="base")
    record = execute(a_run(training=impatient), store)
    base = load_file(store.root / "stages" / "base" / record["base_id"] / "history.safetensors")
    assert len(base["losses"]) < 60 == record["train_steps"]


class Compared(Metric):
    """The sum of the weights' squares minus that of the base model."""

    name: ClassVar[str] = "compared"
    expected_sign = 0
    compares = True
    scale: float = 1.0

    def reference(self, base):
        return {"norm": _norm(base.network())}

    def reference_options(self):
        return {"name": self.name}

    def measure(self, subject):
        norm = _norm(subject.network())
        return Estimate(float(self.scale * (norm - subject.reference(self)["norm"])), 0.0, tensors={"norm": norm})


def _norm(model):
    with torch.no_grad():
        return sum(p.double().square().sum() for p in model.parameters())


def test_the_base_model_is_measured_once_for_all_its_expansions_and_options(store):  # noqa: F811
    from mmbench.expansions.net2wider import Net2Wider

    runs = [
        a_run(metric=Compared(scale=scale), expansion=Net2Wider(factor=factor))
        for scale in (1.0, 2.0)
        for factor in (2.0, 3.0)
    ]
    records = [execute(run, store) for run in runs]
    assert store.computed["reference"] == 1
    assert len({record["reference_id"] for record in records}) == 1
    assert records[2]["score"] == pytest.approx(2 * records[0]["score"])
    norms = [
        load_file(store.root / "stages" / kind / records[0][f"{kind}_id"] / "tensors.safetensors")["norm"]
        for kind in ("score", "reference")
    ]
    assert records[0]["score"] == pytest.approx(float(norms[0] - norms[1]))


def test_a_run_whose_metric_does_not_compare_measures_no_base(store):  # noqa: F811
    record = execute(a_run(), store)
    assert record["reference_id"] is None
    assert "reference" not in store.computed


def test_outside_a_run_there_is_no_later_moment():
    from mmbench.errors import ConfigError
    from mmbench.metrics.base import measure

    data = load_data(a_run().dataset, "cpu").train
    model = a_run().model.build(a_run().dataset.shape())
    with pytest.raises(ConfigError, match=r"metric\.after = 5 is for runs"):
        measure(model, (data.images, data.labels), "training_loss", after=5)


def test_an_expansion_that_leaves_the_first_layer_alone_scores_exactly_zero(store):  # noqa: F811
    """Base model and expansion take the same random walks, also as stages of a run."""
    from mmbench.expansions.net2deeper import Net2Deeper
    from mmbench.metrics.manifold import Manifold

    record = execute(a_run(metric=Manifold(nodes=60, images=100), expansion=Net2Deeper()), store)
    assert record["status"] == "done", record
    assert record["score"] == 0
    assert record["manifold_m"] == pytest.approx(0.4, abs=0.02)
