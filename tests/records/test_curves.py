import json

import numpy as np
import pandas as pd
import pytest
import torch

from mmbench.records import curves as module
from mmbench.records.curves import Curve, read_traces, thinned
from mmbench.store.store import Store, key_of

BASE = {"model": {"name": "mlp", "hidden": [8]}, "dataset": {"name": "torch"}, "training": {"name": "sgd"}, "seed": 0}
GROWN = {"base": BASE, "expansion": {"name": "net2wider", "axis": "width"}}


@pytest.fixture
def stages(tmp_path):
    """A store with a base model, a trained one and a score."""
    store = Store(tmp_path)
    store.prepare()
    history = {"history": {"losses": torch.tensor([3.0, 2.0, 1.0])}}
    store.stage("base", BASE, lambda: ({}, history))
    store.stage("trained", {"expanded": GROWN, "training": BASE["training"]}, lambda: ({}, history))
    store.stage("score", {"expanded": GROWN, "metric": {"name": "snip"}}, lambda: ({"value": 1.0}, {}))
    return tmp_path


def frame(**columns):
    row = {"base_id": key_of("base", BASE), "dataset": "torch/cifar10", "model": "mlp", "expansion": "net2wider"}
    return pd.DataFrame([row | columns])


def test_curves_of_base_and_expanded_models_are_read_and_named_as_the_records_do(stages):
    found = read_traces([stages], frame())
    shared = {"dataset": "torch/cifar10", "model": "mlp", "steps": (0.5, 1.5, 2.5), "losses": (3.0, 2.0, 1.0)}
    assert found.curves == [Curve(operator="", **shared), Curve(operator="net2wider", **shared)]
    assert read_traces([stages], pd.DataFrame()).curves[0].dataset == "torch"


def test_settings_are_those_of_all_parts(stages):
    settings = read_traces([stages], frame()).settings
    assert {part: [json.loads(text) for text in texts] for part, texts in settings.items()} == {
        "model": [BASE["model"]],
        "dataset": [BASE["dataset"]],
        "expansion": [GROWN["expansion"]],
        "training": [BASE["training"]],
        "metric": [{"name": "snip"}],
    }


def test_damaged_stages_are_passed_over(stages):
    for path in (stages / "stages/base").glob("*/history.safetensors"):
        path.write_bytes(b"nothing")
    for path in (stages / "stages/trained").glob("*/result.json"):
        path.write_text("{}")
    found = read_traces([stages], frame())
    assert found.curves == []
    assert found.settings["model"]


def test_no_store_and_an_empty_one_have_no_traces(tmp_path):
    assert read_traces([tmp_path, tmp_path / "nowhere"], pd.DataFrame()).curves == []


def test_a_large_store_is_sampled_and_says_so(stages, monkeypatch):
    monkeypatch.setattr(module, "READ", 0)
    found = read_traces([stages], frame())
    assert (found.curves, found.left_out) == ([], 3)


def test_long_curves_are_thinned_to_means_of_equal_shares():
    steps, losses = thinned(np.arange(6000.0))
    assert len(steps) == len(losses) == module.POINTS
    assert (steps[0], losses[0], losses[-1]) == (50.0, 49.5, 5949.5)
    assert thinned(np.array([1.0, np.nan])) is None
    assert thinned(np.array([])) is None
