"""What every metric must do, whatever it computes. The tests run over the registry and over all network families."""

from __future__ import annotations

import copy
import importlib.util
import math
import random
import re
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from mmbench import measure, measure_all
from mmbench.data.base import Split
from mmbench.errors import ConfigError, DataError, MmbenchError, UndefinedError
from mmbench.landscape import surface
from mmbench.metrics.base import METRICS, Estimate, Metric, mean_and_error
from mmbench.metrics.subject import Subject
from mmbench.models.base import MODELS
from mmbench.training.recipes import SGD

from .conftest import WithUnused, images, network

CONF = Path(__file__).parents[2] / "conf" / "metric"
QUICK = {
    "images": 24,
    "batch_size": 8,
    "probes": 3,
    "steps": 4,
    "fraction": 0.5,
    "pairs": 4,
    "directions": 4,
    "chains": 2,
    "burn_in": 2,
    "training": SGD(steps=8, warmup_steps=1, batch_size=16),
}
"""Options that make a metric cheap; those that it has are set, a metric without them is measured as it is."""
SIGNS = {
    "hessian_trace": -1,
    "loss_after_k_steps": -1,
    "manifold": 1,
    "parameters": 1,
    "random": 0,
    "fisher": 1,
    "grad_norm": 1,
    "grasp": 1,
    "jacob_cov": 1,
    "naswot": 1,
    "snip": 1,
    "synflow": 1,
    "zen": 1,
    "adaptive_sharpness": -1,
    "average_sharpness": -1,
    "basin_volume": 1,
    "local_learning_coefficient": -1,
    "pac_bayes": -1,
    "pac_bayes_magnitude": -1,
    "worst_case_sharpness": -1,
    "sharpness": -1,
    "top_eigenvalue": -1,
    "base_accuracy": -1,
    "depth": 1,
    "distance_from_expansion": -1,
    "flops": 1,
    "l2_norm": -1,
    "margin": 1,
    "path_norm": -1,
    "spectral_norm": -1,
    "training_loss": -1,
    "validation_loss": -1,
    "weightwatcher_alpha": -1,
}
"""Expected signs were fixed before any result was seen; a change here is a change of the hypothesis."""
WITHOUT_WEIGHTS = {"base_accuracy", "depth", "flops", "parameters", "random"}
"""Metrics that do not look at the expanded model's weights."""
UNDEFINED: set[tuple[str, str]] = {("path_norm", family) for family in ("vit", "mixer", "convnext")}
"""Metrics that have no meaning for a family."""
UNDEFINED |= {
    ("weightwatcher_alpha", family)
    for family in (["mlp"] if importlib.util.find_spec("weightwatcher") else MODELS.names())  # it is in an extra
}


def quick(name: str) -> Metric:
    return METRICS.create({"name": name, **{k: v for k, v in QUICK.items() if k in METRICS[name].model_fields}})


def measured(model: nn.Module, data: Split, metric: Metric, seed: int = 0) -> Estimate:
    held_out = images(30, seed=1)
    return measure(
        model,
        (data.images, data.labels),
        metric,
        seed=seed,
        validation=(held_out.images, held_out.labels),
        base=network("mlp"),
    )


def score(model: nn.Module, name: str, count: int = 40, seed: int = 0) -> Estimate:
    return measured(model, images(count), quick(name), seed)


TYPICAL = ("resnet", "vit")
"""Families that between them have all that a metric may trip over: convolutions, batch norm, ReLU, attention, LayerNorm
and GELU. What could only go wrong in the handling of networks is tried on these."""
each_metric = pytest.mark.parametrize("metric", METRICS.names())
each_pair = pytest.mark.parametrize(
    ("metric", "family"), [pair for pair in product(METRICS.names(), MODELS.names()) if pair not in UNDEFINED]
)
each_typical_pair = pytest.mark.parametrize(
    ("metric", "family"), [pair for pair in product(METRICS.names(), TYPICAL) if pair not in UNDEFINED]
)


@each_pair
def test_it_is_a_finite_number_with_an_error_and_its_cost(metric: str, family: str) -> None:
    start = time.perf_counter()
    estimate = score(network(family), metric)
    assert math.isfinite(estimate.value)
    assert estimate.stderr is None or (estimate.stderr >= 0 and math.isfinite(estimate.stderr))
    assert 0 < estimate.seconds <= time.perf_counter() - start
    for key, found in estimate.details.items():
        assert isinstance(key, str)
        assert all(map(math.isfinite, found if isinstance(found, list) else [found]))
    assert all(seconds >= 0 for seconds in estimate.costs.values())


@each_typical_pair
def test_the_model_and_the_images_stay_as_they_were(metric: str, family: str) -> None:
    model, data = network(family), images()
    first, *_ = parameters = list(model.parameters())
    model.train()
    next(model.children()).eval()  # a mode that no single call of train() restores
    first.requires_grad_(False)
    parameters[-1].grad = torch.full_like(parameters[-1], 7.0)

    def snapshot() -> list[object]:
        state = [*model.state_dict(keep_vars=True).items()]
        return [
            [(name, id(t), t.data_ptr(), t.stride(), t.requires_grad, t.dtype) for name, t in state],
            [module.training for module in model.modules()],
            [p.grad is None for p in parameters],
        ]

    before, values = snapshot(), copy.deepcopy(model.state_dict())
    measured(model, data, quick(metric))
    assert snapshot() == before
    assert all(torch.equal(tensor, values[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(parameters[-1].grad, torch.full_like(parameters[-1], 7.0))
    assert torch.equal(data.images, images().images)
    assert torch.equal(data.labels, images().labels)


@each_typical_pair
def test_the_global_random_state_stays_as_it_was(metric: str, family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _, reseeded = network(family), network("mlp"), []
    torch.manual_seed(314)  # a state that no measurement begins or ends with
    monkeypatch.setattr(torch.cuda, "manual_seed_all", reseeded.append)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    score(model, metric)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]
    assert not reseeded, "a network on the CPU, and yet the generators of all GPUs were seeded"


@each_typical_pair
def test_the_seed_alone_decides(metric: str, family: str) -> None:
    model = network(family)
    torch.manual_seed(1)
    first = score(model, metric)
    torch.manual_seed(2)
    again = score(model, metric)
    assert (first.value, first.stderr, first.details) == (again.value, again.stderr, again.details)


@each_typical_pair
def test_a_float64_network_is_measured_in_float64(metric: str, family: str) -> None:
    seen = set()

    def scaled(factor: float) -> float:
        model = network(family).double()
        for module in model.modules():
            module.register_forward_hook(lambda module, inputs, output: seen.update({inputs[0].dtype, output.dtype}))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter *= factor
        return score(model, metric).value

    value = scaled(1.0)
    assert seen <= {torch.float64}
    # A change of 1e-10 is lost in float32; a score that does not look at the weights stays under a large one, too.
    if metric not in ("naswot", "weightwatcher_alpha"):  # constant in pieces, free of scale
        assert scaled(1 + 1e-10) != value or scaled(1.5) == value
    assert value == pytest.approx(score(network(family), metric).value, rel=1e-2, abs=1e-5)


@each_typical_pair
def test_frozen_parameters_and_no_grad_make_no_difference(metric: str, family: str) -> None:
    model = network(family)
    expected = score(model, metric).value
    assert score(network(family).requires_grad_(False), metric).value == expected
    assert score(network(family).train(), metric).value == expected
    with torch.no_grad():
        assert score(model, metric).value == expected


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.uint8], ids=str)
@each_metric
def test_images_and_labels_may_have_another_dtype(metric: str, dtype: torch.dtype) -> None:
    if (metric, "resnet") in UNDEFINED:
        return
    data = images()
    pixels = (data.images * 40 + 128).clamp(0, 255).to(dtype)
    expected = measured(network("resnet"), Split(pixels.float(), data.labels), quick(metric)).value
    assert measured(network("resnet"), Split(pixels, data.labels), quick(metric)).value == expected
    assert measured(network("resnet"), Split(pixels, data.labels.to(torch.int32)), quick(metric)).value == expected


@pytest.mark.parametrize("count", [1, 5])
@each_pair
def test_few_images_are_enough(metric: str, family: str, count: int) -> None:
    estimate = score(network(family), metric, count)
    assert math.isfinite(estimate.value)
    assert estimate.stderr is None or estimate.stderr >= 0


@each_pair
def test_a_parameter_without_influence_does_no_harm(metric: str, family: str) -> None:
    assert math.isfinite(score(WithUnused(network(family)), metric).value)


@each_pair
def test_a_broken_network_is_an_error_and_no_number(metric: str, family: str) -> None:
    model = network(family)
    for parameter in model.parameters():
        nn.init.constant_(parameter, math.nan)
    if metric in WITHOUT_WEIGHTS:
        assert math.isfinite(score(model, metric).value)
    else:
        with pytest.raises(MmbenchError, match=r"diverged at step 0|not a finite number|not finite numbers"):
            score(model, metric)


@each_pair
def test_a_dead_network_is_an_error_or_a_finite_number(metric: str, family: str) -> None:
    model = network(family)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    if metric in WITHOUT_WEIGHTS:
        assert math.isfinite(score(model, metric).value)
        return
    try:
        assert math.isfinite(score(model, metric).value)
    except MmbenchError as error:
        assert re.search("dead|not a finite number|are zero", str(error))


@each_typical_pair
def test_the_size_of_the_passes_makes_no_difference(metric: str, family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if metric in ("manifold",):
        return  # its batch norms use the statistics of all images at once
    whole = score(network(family).double(), metric)
    monkeypatch.setattr(surface, "CHUNK", 7)
    pieces = score(network(family).double(), metric)
    assert pieces.value == pytest.approx(whole.value, rel=1e-6, abs=1e-12)


def test_all_at_once_are_each_alone_and_cost_as_much() -> None:
    data, held_out = images(), images(30, seed=1)
    given = {"seed": 3, "validation": (held_out.images, held_out.labels), "base": network("mlp")}
    together = measure_all(network("resnet"), (data.images, data.labels), map(quick, METRICS.names()), **given)
    assert list(together) == METRICS.names()
    for name, estimate in together.items():
        try:
            alone = measure(network("resnet"), (data.images, data.labels), quick(name), **given)
        except MmbenchError as error:
            assert str(estimate) == str(error)
        else:
            assert isinstance(estimate, Estimate)
            assert (estimate.value, estimate.stderr, estimate.details) == (alone.value, alone.stderr, alone.details)


@pytest.mark.parametrize(("metric", "family"), sorted(UNDEFINED))
def test_a_metric_without_meaning_for_a_network_says_so(metric: str, family: str) -> None:
    with pytest.raises(UndefinedError):
        score(network(family), metric)


@each_metric
def test_its_class_is_complete(metric: str) -> None:
    cls = METRICS[metric]
    assert cls.expected_sign in {-1, 0, 1}
    assert cls.expected_sign == SIGNS.get(metric, cls.expected_sign)
    assert cls.__doc__
    assert all(field.description for field in cls.model_fields.values()), "an option without a docstring"
    assert (sys.modules[cls.__module__].__doc__ or "").strip()


@each_metric
def test_its_config_holds_exactly_its_options_and_their_defaults(metric: str) -> None:
    options = yaml.safe_load((CONF / f"{metric}.yaml").read_text())
    assert options.keys() == {"name", *METRICS[metric].model_fields}
    if "training" in options:
        assert options.pop("training") == "${training}"
    assert METRICS.create(options) == METRICS[metric](**METRICS[metric].where_expanded)


def test_every_config_is_of_a_metric() -> None:
    assert sorted(path.stem for path in CONF.glob("*.yaml")) == METRICS.names()


@each_metric
def test_a_wrong_option_is_refused_with_its_name(metric: str) -> None:
    data = images()
    with pytest.raises(ConfigError, match=r"metric\.no_such_option"):
        measure(network("mlp"), (data.images, data.labels), metric, no_such_option=1)


@pytest.mark.parametrize("labels", [0, 3, 5], ids="{} labels".format)
def test_images_without_labels_are_refused(labels: int) -> None:
    data = images(4 if labels else 0)
    with pytest.raises(DataError, match=f"{len(data)} images, {labels} labels"):
        measure(network("mlp"), (data.images, torch.zeros(labels, dtype=torch.long)), "random")


def test_the_metrics_can_be_found_and_checked_without_torch() -> None:
    script = (
        "import sys; from mmbench.registry import METRICS; import mmbench.metrics.base\n"
        "for name in METRICS.names(): METRICS.create({'name': name}).describe()\n"
        "assert len(METRICS.names()) >= 6 and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_subject_draws_without_replacement_and_keeps_pairs() -> None:
    data = images(30)
    subject = Subject(network("mlp"), data)
    chosen = subject.images(10)
    rows = [int((data.images == image).flatten(1).all(1).nonzero()) for image in chosen.images]
    assert len(set(rows)) == 10
    assert rows != sorted(rows)
    assert torch.equal(chosen.labels, data.labels[rows])
    assert torch.equal(subject.images(4).labels, chosen.labels[:4])
    assert subject.images(30) is data
    assert torch.equal(Subject(network("mlp"), data, seed=7, images_seed=0).images(10).images, chosen.images)


def test_mean_and_error_are_those_of_independent_draws() -> None:
    assert mean_and_error(torch.tensor([1.0, 2.0, 6.0])) == (3.0, pytest.approx((7 / 3) ** 0.5))
    assert mean_and_error(torch.tensor([4.0])) == (4.0, None)
