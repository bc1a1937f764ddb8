"""The trivial metrics: `parameters` and `random`."""

from __future__ import annotations

import pytest
import torch

from mmbench import measure
from mmbench.models.base import MODELS
from mmbench.testing.networks import SHAPE, SMALL, images, network


@pytest.mark.parametrize("family", MODELS.names())
def test_parameters_is_the_exact_count(family: str) -> None:
    data = images(2)
    estimate = measure(network(family), (data.images, data.labels), "parameters")
    closed_form = MODELS.create({"name": family, **SMALL.get(family, {})}).parameters(SHAPE)
    assert (estimate.value, estimate.stderr) == (closed_form, 0.0)


def test_random_is_uniform_and_says_so() -> None:
    data = images(2)
    estimates = [measure(network("mlp"), (data.images, data.labels), "random", seed=seed) for seed in range(400)]
    values = torch.tensor([estimate.value for estimate in estimates], dtype=torch.float64)
    assert len(values.unique()) == 400
    assert 0 < values.min() < 0.05
    assert 0.95 < values.max() < 1
    assert values.mean().item() == pytest.approx(0.5, abs=4 * estimates[0].stderr / 20)
    assert values.std().item() == pytest.approx(estimates[0].stderr, rel=0.1)


def test_random_knows_nothing_of_the_model() -> None:
    data = images(2)
    values = {measure(network(f), (data.images, data.labels), "random", seed=3).value for f in MODELS.names()}
    assert len(values) == 1
