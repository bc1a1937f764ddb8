from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from mmbench.landscape.distances import distances, pair_mean
from mmbench.landscape.traces import widening
from mmbench.models.base import MODELS

from .conftest import problem


def others(model: nn.Module, count: int) -> list[nn.Module]:
    found, generator = [model], torch.Generator().manual_seed(0)
    for _ in range(count):
        found.append(copy.deepcopy(model))
        with torch.no_grad():
            for weight in found[-1].parameters():
                weight += torch.randn(weight.shape, generator=generator, dtype=torch.float64)
    return found


@pytest.mark.parametrize("family", MODELS.names())
def test_euclidean_distances_are_those_of_the_vectors(family: str) -> None:
    models = others(problem(family)[0], 2)
    vectors = torch.stack([torch.cat([p.detach().flatten() for p in model.parameters()]) for model in models])
    torch.testing.assert_close(distances(models), torch.cdist(vectors, vectors), rtol=1e-12, atol=1e-12)
    assert torch.equal(distances(models).diagonal(), torch.zeros(3, dtype=torch.float64))


def test_a_small_distance_is_not_lost_beside_large_weights() -> None:
    one = nn.Linear(50, 50, dtype=torch.float64)
    with torch.no_grad():
        one.weight.mul_(1e6)
        other = copy.deepcopy(one)
        other.weight[0, 0] += 1e-6
    assert float(distances([one, other])[0, 1]) == pytest.approx(1e-6, rel=1e-3)


def test_filters_count_alike_whatever_their_scale_and_biases_do_not() -> None:
    one = nn.Linear(3, 4, dtype=torch.float64)
    other = copy.deepcopy(one)
    with torch.no_grad():
        one.weight[3] = other.weight[3] = 0  # zero in both: it does not count
        one.weight[2] = 0  # zero in one: d = w, and the mean square is half of it
        other.weight[0] = 1.2 * one.weight[0]
        other.bias += 1
    shares = [0.04 / ((1 + 1.44) / 2), 0.0, 2.0]
    assert float(distances([one, other], by_filter=True)[0, 1]) == pytest.approx(math.sqrt(sum(shares) / 3))
    with torch.no_grad():
        for model in (one, other):
            model.weight[0] *= 1e3
    assert float(distances([one, other], by_filter=True)[0, 1]) == pytest.approx(math.sqrt(sum(shares) / 3))


def test_networks_without_a_filter_have_no_distance_by_filter() -> None:
    norms = [nn.BatchNorm2d(3).double(), nn.BatchNorm2d(3).double()]
    with torch.no_grad():
        norms[1].weight += 1
    assert distances(norms, by_filter=True).sum() == 0
    assert float(distances(norms)[0, 1]) == pytest.approx(3**0.5)


def test_the_mean_over_pairs_and_its_error_by_hand() -> None:
    values = torch.tensor([[9.0, 1, 2], [1, 9, 6], [2, 6, 9]], dtype=torch.float64)
    mean, error = pair_mean(values)
    assert mean == 3.0
    without = [6.0, 2.0, 1.0]
    assert error == pytest.approx(widening(3) * math.sqrt(2 / 3 * sum((v - 3) ** 2 for v in without)))
    assert pair_mean(values[:2, :2]) == (1.0, None)


@pytest.mark.parametrize("count", [3, 4, 6])
@pytest.mark.parametrize("dim", [1, 3, 200])
def test_the_error_is_that_of_the_mean_over_draws_of_the_points(count: int, dim: int) -> None:
    """Whether distances vary by point (few dimensions) or by pair (many); three points err on the safe side."""
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(1000, count, dim, dtype=torch.float64, generator=generator)
    found = torch.tensor([pair_mean(torch.cdist(cloud, cloud)) for cloud in points])
    truth = found[:, 0].mean()
    assert float(((found[:, 0] - truth).abs() <= 2 * found[:, 1]).double().mean()) > 0.88
    stated = float(found[:, 1].square().mean().sqrt()) / widening(count)
    assert 0.85 < stated / float(found[:, 0].std()) < (1.6 if count == 3 else 1.25)
