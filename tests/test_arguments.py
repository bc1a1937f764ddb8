"""The public functions take what is clearly meant, and name what they cannot take: argument, value, what is allowed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import mmbench
from mmbench.errors import MmbenchError
from mmbench.expansions.base import EXPANSIONS
from mmbench.metrics.base import METRICS
from mmbench.training.recipes import SGD
from tests.advice.test_advise import QUICK, data, network

MODEL, (IMAGES, LABELS) = network(), data()
SET = TensorDataset(IMAGES, LABELS)
LOADER = DataLoader(SET, batch_size=7)
SIZE = {"axis": "hidden", "budget": 2.0, "tolerance": 0.05}


def advise(examples: Any = (IMAGES, LABELS), model: Any = MODEL, **given: Any) -> Any:
    options = {"metrics": "parameters", "expansions": ["net2wider", "zero_pad"], "training": QUICK, **given}
    return mmbench.advise(model, examples, **options)["parameters"].tolist()


def measure(examples: Any = (IMAGES, LABELS), metric: Any = "hessian_trace", **given: Any) -> Any:
    return mmbench.measure(MODEL, examples, metric, **given).value


def measured(metrics: Any) -> Any:
    return {name: found.value for name, found in mmbench.measure_all(MODEL, (IMAGES, LABELS), metrics).items()}


def expand(expansion: Any = "net2wider", **given: Any) -> Any:
    return [t.tolist() for t in mmbench.expand(MODEL, expansion, **{**SIZE, **given}).state_dict().values()]


Call = Callable[[], Any]
SAME: dict[str, tuple[Call, Call]] = {
    "advise: a data set": (lambda: advise(SET), advise),
    "advise: a loader": (lambda: advise(LOADER), advise),
    "advise: metrics with options": (lambda: advise(metrics={"name": "parameters"}), advise),
    "advise: metrics as a list with options": (lambda: advise(metrics=[{"name": "parameters"}]), advise),
    "advise: metrics=None": (lambda: advise(metrics=None), advise),
    "advise: expansions as a text": (lambda: advise(expansions="net2wider, zero_pad"), advise),
    "advise: expansions as a generator": (lambda: advise(expansions=(n for n in ["net2wider", "zero_pad"])), advise),
    "advise: an expansion twice": (lambda: advise(expansions="net2wider,zero_pad,net2wider"), advise),
    "advise: training as a dictionary": (lambda: advise(training={"name": "sgd", "steps": 20}), advise),
    "advise: training as a name": (lambda: advise(training="sgd"), advise),
    "advise: training=None": (lambda: advise(training=None), advise),
    "advise: a seed of numpy": (lambda: advise(seed=np.int64(3)), lambda: advise(seed=3)),
    "advise: a seed of torch": (lambda: advise(seed=torch.tensor(3)), lambda: advise(seed=3)),
    "advise: a budget of numpy": (lambda: advise(budget=np.float32(2)), advise),
    "advise: a whole budget": (lambda: advise(budget=2), advise),
    "advise: seconds of numpy": (lambda: advise(seconds=np.int64(600)), advise),
    "advise: a tolerance of numpy": (lambda: advise(tolerance=np.float64(0.05)), advise),
    "advise: save=None": (lambda: advise(save=None), advise),
    "advise: validation as a loader": (lambda: advise(validation=LOADER), advise),
    "advise: progress=None": (lambda: advise(progress=None), advise),
    "advise: progress=True": (lambda: advise(progress=True), advise),
    "measure: a loader": (lambda: measure(LOADER), measure),
    "measure: a data set": (lambda: measure(SET), measure),
    "measure: a metric with options": (
        lambda: measure(metric={"name": "hessian_trace", "probes": 4}), lambda: measure(probes=4),
    ),
    "measure: an option of numpy": (lambda: measure(probes=np.int64(4)), lambda: measure(probes=4)),
    "measure: a seed of numpy": (lambda: measure(seed=np.int64(3)), lambda: measure(seed=3)),
    "measure: validation as a loader": (lambda: measure(validation=LOADER), measure),
    "measure_all: one name": (lambda: measured("snip"), lambda: measured(["snip"])),
    "measure_all: names in a text": (lambda: measured("snip,depth"), lambda: measured(["snip", "depth"])),
    "measure_all: a metric": (lambda: measured(METRICS.create({"name": "snip"})), lambda: measured(["snip"])),
    "measure_all: with options": (lambda: measured([{"name": "snip"}]), lambda: measured(["snip"])),
    "expand: a dictionary": (lambda: mmbench.expand(MODEL, {"name": "net2wider", **SIZE}).state_dict().keys(),
                             lambda: mmbench.expand(MODEL, "net2wider", **SIZE).state_dict().keys()),
    "expand: a seed of numpy": (lambda: expand("random_pad", seed=np.int64(3)), lambda: expand("random_pad", seed=3)),
    "expand: a loader": (lambda: expand("gradmax", data=LOADER), lambda: expand("gradmax", data=(IMAGES, LABELS))),
    "expand: arrays": (lambda: expand("gradmax", data=(IMAGES.numpy(), LABELS.numpy())),
                       lambda: expand("gradmax", data=(IMAGES, LABELS))),
    "expand: a budget of numpy": (lambda: expand(budget=np.float32(2)), expand),
}  # fmt: skip


@pytest.mark.parametrize("case", SAME)
def test_what_is_clearly_meant_is_taken(case: str) -> None:
    given, plain = SAME[case]
    assert given() == plain()


OPTIMIZER = torch.optim.SGD(MODEL.parameters(), lr=0.1)
WRONG: dict[str, tuple[Call, tuple[str, ...]]] = {
    "compare: frame": (lambda: mmbench.compare(3), ("frame = 3 is not allowed",)),
    "compare: by": (lambda: mmbench.compare(pd.DataFrame(), by="axes"), ("by = 'axes' is unknown", "axis")),
    "compare: target": (lambda: mmbench.compare(pd.DataFrame(), target=3), ("target = 3 is unknown", "gain")),
    "advise: data": (lambda: advise(None), ("data must be (images, labels)", "not NoneType")),
    "advise: no labels": (lambda: advise(IMAGES), ("data must be (images, labels)", "no labels")),
    "advise: fewer labels": (lambda: advise((IMAGES, LABELS[:5])), ("as many labels as images", "5 labels")),
    "advise: model": (lambda: advise(model="resnet18"), ("model must be a network", "got str")),
    "advise: metrics": (lambda: advise(metrics=3), ("metrics = 3 is not allowed", "parameters")),
    "advise: no metrics": (lambda: advise(metrics=[]), ("metrics is empty", "parameters")),
    "advise: a metric": (lambda: advise(metrics=["nope"]), ("metric.name = 'nope' is unknown", "allowed: ")),
    "advise: a metric's option": (lambda: advise(metrics={"name": "snip", "n": 3}), ("metric.n", "allowed: ")),
    "advise: a metric's class": (lambda: advise(metrics=METRICS["snip"]), ("metrics = <class", "must be ")),
    "advise: a metric twice": (lambda: advise(metrics=["depth", "depth"]), ("metrics names depth more than once",)),
    "advise: expansions": (lambda: advise(expansions=3), ("expansions = 3 is not allowed", "names of operators")),
    "advise: no expansions": (lambda: advise(expansions=[]), ("expansions is empty", "names of operators")),
    "advise: an expansion": (lambda: advise(expansions="net2widr"), ("expansions = 'net2widr'", "'net2wider'")),
    "advise: an operator": (lambda: advise(expansions=EXPANSIONS.create({"name": "net2wider"})),
                            ("expansions = Net2Wider(", "must be names of operators")),
    "advise: no operator that fits": (lambda: advise(expansions=["stack"]), ("no expansion of this network", "stack:")),
    "advise: training": (lambda: advise(training=100), ("training = 100 is not allowed", "adamw", "sgd")),
    "advise: training's option": (lambda: advise(training={"name": "sgd", "rate": 1}), ("training.rate", "lr")),
    "advise: training's class": (lambda: advise(training=SGD), ("training = <class", "sgd")),
    "advise: an optimizer": (lambda: advise(training=OPTIMIZER), ("training = SGD", '{"name": "sgd", "lr": 0.1')),
    "advise: a warm-up that is too long": (lambda: advise(training={"name": "sgd", "epochs": 1, "warmup_steps": 99}),
                                           ("training.warmup_steps = 99", "training.epochs = 1")),
    "advise: tolerance": (lambda: advise(tolerance=0.2), ("tolerance = 0.2 is not allowed", "<= 0.05")),
    "advise: tolerance as a text": (lambda: advise(tolerance="5%"), ("tolerance = '5%' is not allowed", "<= 0.05")),
    "advise: budget": (lambda: advise(budget=0.5), ("budget = 0.5 is not allowed", "> 1 and < 1000")),
    "advise: budget as a text": (lambda: advise(budget="two"), ("budget = 'two' is not allowed", "> 1")),
    "advise: budget true": (lambda: advise(budget=True), ("budget = True is not allowed", "> 1")),
    "advise: budget nan": (lambda: advise(budget=float("nan")), ("budget = nan is not allowed", "> 1")),
    "advise: seconds": (lambda: advise(seconds=0), ("seconds = 0 is not allowed", "> 0")),
    "advise: seconds as a text": (lambda: advise(seconds="60"), ("seconds = '60' is not allowed", "> 0")),
    "advise: seed": (lambda: advise(seed=3.5), ("seed = 3.5 is not allowed", "an integer >= 0")),
    "advise: a negative seed": (lambda: advise(seed=-1), ("seed = -1 is not allowed", "an integer >= 0")),
    "advise: save": (lambda: advise(save="some"), ("save = 'some' is not allowed", "none, best or all")),
    "advise: save true": (lambda: advise(save=True), ("save = True is not allowed", "none, best or all")),
    "advise: folder": (lambda: advise(folder=None), ("folder = None is not allowed", "a folder")),
    "advise: progress": (lambda: advise(progress=3), ("progress = 3 is not allowed", "True, False, or a function")),
    "advise: two at once": (lambda: advise(budget=0, seed="a"), ("budget = 0 is not allowed", "seed = 'a'")),
    "measure: metric": (lambda: measure(metric=None), ("metric = None is not allowed", "hessian_trace")),
    "measure: metrics": (lambda: measure(metric=["snip"]), ("metric = ['snip'] is not allowed", "must be a name")),
    "measure: seed": (lambda: measure(seed="a"), ("seed = 'a' is not allowed", "an integer >= 0")),
    "measure: data": (lambda: measure("digits"), ("images and labels", "not str")),
    "measure: expand": (lambda: measure(metric="injected_randomness", base=MODEL, expand="net2wider"),
                        ("expand = 'net2wider' is not allowed", "must be a function")),
    "measure_all: metrics": (lambda: measured(3), ("metrics = 3 is not allowed", "snip")),
    "measure_all: a metric": (lambda: measured([3]), ("metrics = 3 is not allowed", "snip")),
    "expand: model": (lambda: mmbench.expand("resnet18", "net2wider"), ("model must be a network", "got str")),
    "expand: operator": (lambda: mmbench.expand(MODEL, 3), ("expansion = 3 is not allowed", "net2wider")),
    "expand: seed": (lambda: expand(seed="a"), ("seed = 'a' is not allowed", "an integer >= 0")),
    "expand: data": (lambda: expand("gradmax"), ("gradmax needs training data", "data=(images, labels)")),
    "save: model": (lambda: mmbench.save("resnet18", "large.safetensors"), ("model must be a network", "got str")),
    "save: path": (lambda: mmbench.save(MODEL, 3), ("path = 3 is not allowed", "name of a file")),
    "save: no such folder": (lambda: mmbench.save(MODEL, "no/such/x.pth"), ("cannot write no/such/x.pth",)),
    "load: path": (lambda: mmbench.load(None), ("path = None is not allowed", "name of a file")),
    "load: no such file": (lambda: mmbench.load("nothing.pth"), ("nothing.pth",)),
    "configuration: model": (lambda: mmbench.configuration(None), ("model must be a network", "got NoneType")),
    "build: a text": (lambda: mmbench.build(json.dumps(mmbench.configuration(MODEL))), ("a configuration is a",)),
    "build: a network": (lambda: mmbench.build(MODEL), ("a configuration is a dictionary", "Sequential(...")),
    "load_records: None": (lambda: mmbench.load_records(None), ("results = None is not allowed", "a results folder")),
    "load_records: a number": (lambda: mmbench.load_records([3]), ("results = 3 is not allowed", "a results folder")),
    "load_records: a frame": (lambda: mmbench.load_records(pd.DataFrame()), ("is not allowed", "a results folder")),
    "correlate: a path": (lambda: mmbench.correlate("results"), ("frame = 'results'", "mmbench.load_records")),
    "correlate: None": (lambda: mmbench.correlate(None), ("frame = None", "mmbench.load_records")),
    "judge: a list": (lambda: mmbench.judge([{"gain": 1}]), ("frame = [{'gain': 1}]", "mmbench.load_records")),
    "manifold_grid: None": (lambda: mmbench.manifold_grid(None), ("results = None", "a results folder")),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_meant_is_told(case: str) -> None:
    call, parts = WRONG[case]
    with pytest.raises(MmbenchError) as told:
        call()
    assert [part for part in parts if part not in str(told.value)] == []


def test_every_public_function_is_tried() -> None:
    tried = {case.split(":")[0] for case in (*SAME, *WRONG)}
    functions = {name for name in mmbench.__all__ if not isinstance(getattr(mmbench, name), type)}
    assert functions <= tried
