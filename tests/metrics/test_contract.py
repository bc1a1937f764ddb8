"""What every metric must do, for all that are registered, and for their configs."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import yaml

from mmbench import measure
from mmbench.data.base import Split
from mmbench.errors import ConfigError, DataError
from mmbench.metrics.base import METRICS, mean_and_error
from mmbench.metrics.subject import Subject
from mmbench.models.base import MODELS
from mmbench.testing.metrics import MetricContract
from mmbench.testing.networks import images, network

CONF = Path(__file__).parents[2] / "conf" / "metric"
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
    "branch_distance": 1,
    "distance_from_expansion": -1,
    "injected_randomness": 1,
    "flops": 1,
    "l2_norm": -1,
    "layer_width": 1,
    "margin": 1,
    "path_norm": -1,
    "sotl_e": -1,
    "spectral_norm": -1,
    "training_loss": -1,
    "validation_loss": -1,
    "weightwatcher_alpha": -1,
    "barrier_height": -1,
    "cloned_units": -1,
    "dormant_units": -1,
    "expressivity_bottleneck": -1,
    "feature_rank": 1,
    "natural_expansion": 1,
    "relative_flatness": -1,
    "swap": 1,
}
"""Expected signs were fixed before any result was seen; a change here is a change of the hypothesis."""
WITHOUT_A_FIT = ["mlp"] if importlib.util.find_spec("weightwatcher") else MODELS.names()
"""Families for which weightwatcher, which is in an extra, has no power law."""


class TestEveryMetric(MetricContract):
    undefined = frozenset(
        {("path_norm", family) for family in ("vit", "mixer", "convnext")}
        | {("weightwatcher_alpha", family) for family in WITHOUT_A_FIT}
        | {("sotl_e", family) for family in MODELS.names()}  # it needs the losses of a training
    )
    without_weights = frozenset({"base_accuracy", "depth", "flops", "layer_width", "parameters", "random"})
    reads_the_family = frozenset({"barrier_height", "layer_width", "manifold"})
    whole_network = frozenset(
        {"barrier_height", "base_accuracy", "cloned_units", "depth", "dormant_units", "feature_rank", "fisher", "flops"}
        | {"injected_randomness", "jacob_cov", "layer_width", "manifold", "margin", "naswot", "path_norm", "random"}
        | {"spectral_norm", "swap", "training_loss", "validation_loss", "weightwatcher_alpha", "zen"}
    )
    compares_networks = frozenset({"branch_distance"})
    scale_free = frozenset({"cloned_units", "dormant_units", "feature_rank", "manifold", "naswot", "swap"}) | {
        "weightwatcher_alpha"
    }
    options: ClassVar[Mapping[str, Any]] = {"match": False}

    @classmethod
    def metrics(cls) -> Sequence[str]:
        return METRICS.names()


class TestMatchedExpansions(MetricContract):
    metric = "injected_randomness"
    whole_network = frozenset({"injected_randomness"})
    test_a_parameter_without_influence_does_no_harm = None  # matching reads networks of known families alone


each_metric = pytest.mark.parametrize("metric", METRICS.names())


@each_metric
def test_its_sign_is_the_one_that_was_fixed(metric: str) -> None:
    assert METRICS[metric].expected_sign == SIGNS.get(metric, METRICS[metric].expected_sign)


@each_metric
def test_its_config_holds_exactly_its_options_and_their_defaults(metric: str) -> None:
    options = yaml.safe_load((CONF / f"{metric}.yaml").read_text())
    assert options.keys() == {"name", *METRICS[metric].model_fields}
    if "training" in options:
        assert options.pop("training") == "${training}"
    assert METRICS.create(options) == METRICS[metric]()


def test_every_config_is_of_a_metric() -> None:
    assert sorted(path.stem for path in CONF.glob("*.yaml")) == METRICS.names()


def test_a_wrong_option_is_refused_with_its_name() -> None:
    data = images()
    with pytest.raises(ConfigError, match=r"metric\.no_such_option"):
        measure(network("mlp"), (data.images, data.labels), "sharpness", no_such_option=1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.int16], ids=str)
@pytest.mark.parametrize("metric", ["training_loss", "validation_loss", "loss_after_k_steps", "jacob_cov"])
def test_images_and_labels_may_have_another_dtype(metric: str, dtype: torch.dtype) -> None:
    def measured(data: Split) -> float:
        pair = data.images, data.labels
        return measure(network("resnet"), pair, TestEveryMetric.quick(metric), validation=pair).value

    data = images()
    pixels = (data.images * 40 + 128).clamp(0, 255).to(dtype)
    expected = measured(Split(pixels.float(), data.labels))
    assert measured(Split(pixels, data.labels)) == expected
    assert measured(Split(pixels, data.labels.to(torch.int32))) == expected


@pytest.mark.parametrize("labels", [0, 3, 5], ids="{} labels".format)
def test_images_without_labels_are_refused(labels: int) -> None:
    data = images(4 if labels else 0)
    with pytest.raises(DataError, match=f"{len(data)} images, {labels} labels"):
        measure(network("mlp"), (data.images, torch.zeros(labels, dtype=torch.long)), "random")


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
