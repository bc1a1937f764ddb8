from __future__ import annotations

import fcntl
import math

import pytest
import torch

from mmbench.data.digits import Digits
from mmbench.errors import BusyError, DivergedError, StoreError
from mmbench.execute import _SUBJECTS, execute
from mmbench.expansions.gradmax import GradMax
from mmbench.expansions.identity_block import IdentityBlock
from mmbench.expansions.net2deeper import Net2Deeper
from mmbench.expansions.net2wider import Net2Wider
from mmbench.expansions.none import NoExpansion
from mmbench.expansions.scratch import Scratch
from mmbench.expansions.scratch_matched import ScratchMatched
from mmbench.metrics import _curvature
from mmbench.metrics.base import Metric
from mmbench.metrics.base_accuracy import BaseAccuracy
from mmbench.metrics.fisher_trace import FisherTrace
from mmbench.metrics.hessian_trace import HessianTrace
from mmbench.metrics.loss_after_k_steps import LossAfterKSteps
from mmbench.metrics.parameters import Parameters
from mmbench.metrics.sharpness import Sharpness
from mmbench.metrics.validation_loss import ValidationLoss
from mmbench.models.mlp import MLP
from mmbench.models.resnet import ResNet
from mmbench.run import Run, is_final
from mmbench.store.store import Store, key_of
from mmbench.training.recipes import SGD

COLUMNS = {
    *("run_id", "status", "error", "model", "dataset", "expansion", "axis", "factor", "budget", "training", "seed"),
    *("metric", "expected_sign", "score", "score_stderr", "metric_seconds", "parameters", "base_parameters"),
    *("base_accuracy", "final_accuracy", "gain", "base_loss", "final_loss", "train_seconds"),
}


def a_run(**changes):
    parts = {
        "model": MLP(hidden=(6,)),
        "dataset": Digits(train_size=200),
        "expansion": Net2Wider(),
        "metric": Parameters(),
        "training": SGD(steps=20, warmup_steps=2),
        "seed": 0,
    }
    return Run(**{**parts, **changes})


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path)
    store.prepare()
    return store


def test_a_record_has_every_column_of_the_contract(store):
    record = execute(a_run(), store)
    assert record["status"] == "done", record
    assert set(record) >= COLUMNS
    assert record["gain"] == pytest.approx(record["final_accuracy"] - record["base_accuracy"])
    assert record["parameters"] == record["score"] == 64 * 12 + 12 + 12 * 10 + 10
    assert record["max_difference"] < 1e-4
    assert (record["preserves"], record["depth"], record["train_steps"]) == ("exact", 1, 20)
    assert (record["flops"], record["base_flops"]) == (2 * (64 * 12 + 12 * 10), 2 * (64 * 6 + 6 * 10))
    assert record["expand_seconds"] > 0
    assert record["torch_version"] == torch.__version__.partition("+")[0]
    assert store.computed == {"base": 1, "expanded": 1, "score": 1, "trained": 1}


def test_scratch_matched_trains_longer_by_the_base_models_compute(store):
    records = [execute(a_run(expansion=expansion), store) for expansion in (Scratch(), ScratchMatched())]
    short, long = (record["train_steps"] for record in records)
    assert short == 20
    assert long == 20 + math.ceil(20 * (64 * 6 + 6 * 10) / (64 * 12 + 12 * 10)) == 30
    assert records[1]["final_loss"] != records[0]["final_loss"]


def test_an_operator_that_looks_at_data_sees_the_training_images(store):
    record = execute(a_run(expansion=GradMax()), store)
    assert record["status"] == "done", record
    assert record["max_difference"] < 1e-4


def test_a_matched_run_has_the_budget_of_the_operator_that_it_matches(store):
    model = MLP(hidden=(8, 8))
    anchor = execute(a_run(model=model), store)
    matched = execute(a_run(model=model, expansion=Net2Deeper(match="net2wider")), store)
    assert matched["status"] == "done", matched
    assert matched["budget"] == anchor["budget"] == 2.17
    assert abs(matched["parameters"] / anchor["parameters"] - 1) < 0.01


def test_a_second_execution_computes_nothing(store):
    first = execute(a_run(), store)
    second_store = Store(store.root)
    assert execute(a_run(), second_store) == first
    assert not second_store.computed


@pytest.mark.parametrize(
    ("change", "computed"),
    [
        ({"metric": Sharpness(images=64)}, {"score"}),
        ({"expansion": Net2Wider(factor=3.0)}, {"expanded", "score", "trained"}),
        ({"training": SGD(steps=21, warmup_steps=2)}, {"base", "expanded", "score", "trained"}),
        ({"seed": 1}, {"base", "expanded", "score", "trained"}),
        ({"dataset": Digits(train_size=201)}, {"base", "expanded", "score", "trained"}),
    ],
    ids=["metric", "expansion", "training", "seed", "dataset"],
)
def test_a_change_computes_only_the_stages_that_depend_on_it(store, change, computed):
    execute(a_run(), store)
    other = Store(store.root)
    assert execute(a_run(**change), other)["status"] == "done"
    assert set(other.computed) == computed


def test_the_same_run_is_bit_identical_in_two_stores(tmp_path):
    records = []
    for name in ("a", "b"):
        store = Store(tmp_path / name)
        store.prepare()
        torch.manual_seed(hash(name) % 1000)  # global random state must not matter
        records.append(execute(a_run(metric=Sharpness(images=64)), store))
    times = {"metric_seconds", "expand_seconds", "train_seconds", "base_seconds"}
    first, second = ({k: v for k, v in record.items() if k not in times} for record in records)
    assert first == second


def test_stored_stages_give_the_same_record_as_computed_ones(store):
    fresh = execute(a_run(model=ResNet(channels=(2, 3), layers=(1, 1)), metric=Sharpness(images=64)), store)
    (store.root / "records" / f"{fresh['run_id']}.json").unlink()
    assert execute(a_run(model=ResNet(channels=(2, 3), layers=(1, 1)), metric=Sharpness(images=64)), store) == fresh


def test_an_undefined_combination_is_skipped_with_its_reason(store):
    record = execute(a_run(expansion=IdentityBlock()), store)
    assert record["status"] == "skipped"
    assert "residual blocks" in record["error"]
    assert not store.computed
    assert not is_final(record), "an option that is no input of a stage may define it: it is looked at again"


def test_divergence_is_a_recorded_failure_with_its_step_and_is_not_tried_again(store):
    run = a_run(training=SGD(steps=50, warmup_steps=0, lr=1e30, clip_norm=None))
    record = execute(run, store)
    assert record["status"] == "failed"
    assert "diverged at step" in record["error"]
    assert record["error_type"] == DivergedError.__name__
    assert record["parameters"], "what is known stays"
    again = Store(store.root)
    assert execute(run, again) == record
    assert not again.computed
    assert execute(a_run(training=run.training, metric=Sharpness(images=64)), again)["error"] == record["error"]
    assert not again.computed, "the diverged base model is not trained again for another metric"


@pytest.mark.parametrize("kind", ["base", "expanded", "score", "trained"])
def test_a_run_that_would_have_to_wait_says_so_and_leaves_no_record(store, kind):
    run = a_run()
    with (store.root / "locks" / f"{kind}-{key_of(kind, dict(run.stages)[kind])}").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(BusyError):
            execute(run, store, wait=False)
    assert not store.record_ids()
    assert not store.running()
    kinds = [stage for stage, _ in run.stages]
    assert set(store.computed) == set(kinds[: kinds.index(kind)]), "those before it are stored"
    assert execute(run, store, wait=False)["status"] == "done"


def test_a_store_that_cannot_be_used_is_no_failure_of_a_run(store):
    run = a_run()
    (store.root / "stages" / "score").touch()
    with pytest.raises(StoreError, match="could not write to results"):
        execute(run, store)
    assert not store.record_ids()
    assert not store.running()
    (store.root / "stages" / "score").unlink()
    assert execute(run, store)["status"] == "done"


class Failing(Metric):
    name = "failing"
    expected_sign = 1

    def measure(self, subject):
        raise ZeroDivisionError("a bug in a metric")


class NotANumber(Failing):
    name = "not_a_number"

    def measure(self, subject):
        from mmbench.metrics.base import Estimate

        return Estimate(float("nan"), None)


@pytest.mark.parametrize(
    ("metric", "words", "final"),
    [(Failing(), "a bug in a metric", False), (NotANumber(), "not a finite number", True)],
    ids=["an exception is tried again", "no finite number is final"],
)
def test_a_failure_is_a_record_with_what_succeeded(store, metric, words, final):
    record = execute(a_run(metric=metric), store)
    assert record["status"] == "failed"
    assert words in record["error"]
    assert record["base_accuracy"] > 0
    assert "score" not in record
    assert is_final(record) == final
    assert not store.running()


def test_the_base_model_trained_on_is_the_control_none(store):
    record = execute(a_run(expansion=NoExpansion()), store)
    assert record["parameters"] == record["base_parameters"]
    assert (record["axis"], record["factor"], record["budget"], record["arm"]) == ("none", 1.0, 1.0, "control")
    assert record["max_difference"] == 0


def test_metrics_of_one_expanded_model_share_their_work_and_see_the_same_images(store, tmp_path, monkeypatch):
    calls = []
    original = _curvature.image_traces
    monkeypatch.setattr(_curvature, "image_traces", lambda surface: calls.append(surface) or original(surface))
    runs = [a_run(metric=metric) for metric in (HessianTrace(), FisherTrace(), LossAfterKSteps(steps=5))]
    together = [execute(run, store) for run in runs]
    assert len(calls) == 1
    other = Store(tmp_path / "alone")
    other.prepare()
    for run, record in zip(runs, together, strict=True):
        _SUBJECTS.clear()
        alone = execute(run, other)
        assert (alone["score"], alone["score_stderr"]) == (record["score"], record["score_stderr"])
    assert len(calls) == 3
    first = calls[-1].images.images
    execute(a_run(metric=FisherTrace(), expansion=IdentityBlock(), model=ResNet()), store)
    assert torch.equal(calls[-1].images.images, first), "all expansions of all base models, for one data set and seed"


def test_a_metric_gets_the_base_model_and_held_out_images(store):
    record = execute(a_run(metric=BaseAccuracy()), store)
    assert record["score"] == pytest.approx(record["base_validation_accuracy"])
    assert execute(a_run(metric=ValidationLoss()), store)["score"] > 0
