"""The distance between repetitions of an expansion: known noise, none, permuted channels."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from itertools import combinations

import pytest
import torch
from torch import nn

from mmbench import expand, measure
from mmbench.errors import ScoreError, UndefinedError
from mmbench.landscape.distances import pair_mean
from mmbench.landscape.matching import permuted
from mmbench.landscape.traces import widening
from mmbench.metrics.base import Estimate
from mmbench.models.base import MODELS
from mmbench.models.mlp import MLP
from mmbench.models.reading import architecture_of
from mmbench.testing.networks import SHAPE, images, network

Again = Callable[[nn.Module, int], nn.Module]


def score(base: nn.Module, again: Again, **options: object) -> Estimate:
    data = images(12, torch.float64)
    given = {"base": base, "expand": again, **options}
    return measure(again(base, 0), (data.images, data.labels), "injected_randomness", **given)


def noisy(sigma: float) -> Again:
    """Keeps the network and adds independent Gaussian noise to every weight."""

    def again(small: nn.Module, draw: int) -> nn.Module:
        twin, generator = copy.deepcopy(small), torch.Generator().manual_seed(100 + draw)
        with torch.no_grad():
            for weight in twin.parameters():
                weight += sigma * torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        return twin

    return again


def vector(model: nn.Module) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


@pytest.mark.parametrize("match", [True, False])
@pytest.mark.parametrize("family", MODELS.names())
def test_an_operator_without_randomness_injects_none(family: str, match: bool) -> None:
    base = network(family, torch.float64)
    operator = "zero_pad" if family in ("mlp", "cnn") else "identity_block"
    estimate = score(base, lambda small, draw: expand(small, operator,
                                                      factor=2.0, seed=0), match=match)  # fmt: skip
    assert (estimate.value, estimate.stderr) == (0.0, 0.0)


@pytest.mark.parametrize("match", [True, False])
def test_known_noise_has_its_expected_distance(match: bool) -> None:
    """||w_i - w_j||^2 / (2 sigma^2) is chi-squared with P degrees of freedom; so little noise reorders no unit."""
    base, sigma = MLP(hidden=(40, 30)).build(SHAPE).double(), 1e-3
    count = len(vector(base))
    expected = 2 * sigma * math.exp(math.lgamma((count + 1) / 2) - math.lgamma(count / 2))
    estimate = score(base, noisy(sigma), draws=6, match=match)
    assert estimate.value == pytest.approx(expected, rel=3 / (2 * count * 3) ** 0.5)  # 15 pairs of 6 points
    assert score(base, noisy(3 * sigma), draws=6, match=match).value == pytest.approx(3 * estimate.value, rel=1e-9)


def test_it_is_the_mean_over_the_pairs_by_hand() -> None:
    base, again = network("mlp", torch.float64), noisy(0.3)
    points = [vector(again(base, draw)) for draw in range(4)]
    lengths = {pair: float((points[pair[0]] - points[pair[1]]).norm()) for pair in combinations(range(4), 2)}
    estimate = score(base, again, draws=4, match=False)
    assert estimate.value == pytest.approx(sum(lengths.values()) / 6, rel=1e-12)
    assert estimate.stderr == pytest.approx(
        pair_mean(torch.cdist(torch.stack(points), torch.stack(points)))[1], rel=1e-6
    )
    assert score(base, again, draws=2, match=False).stderr is None


@pytest.mark.parametrize("family", ["mlp", "resnet"])
def test_renamed_channels_are_no_randomness(family: str) -> None:
    """An operator that only permutes channels at random: matching undoes it, nothing else does."""
    base = network(family, torch.float64)

    def again(small: nn.Module, draw: int) -> nn.Module:
        generator = torch.Generator().manual_seed(draw)
        large = expand(small, "random_pad", factor=1.5, seed=0)
        architecture, shape = architecture_of(large)
        groups = architecture.table(shape).groups
        return permuted(large, {name: torch.randperm(g.size, generator=generator) for name, g in groups.items()})

    assert score(base, again).value == pytest.approx(0, abs=1e-9)
    assert score(base, again, match=False).value > 0.1


def test_the_error_of_new_weights_is_not_that_of_the_matching() -> None:
    """Were the others matched to the first expansion alone, their distance to it would stand out."""
    base = MLP(hidden=(24, 16)).build(SHAPE).double()

    def again(seed: int) -> Again:
        return lambda small, draw: expand(small, "random_pad", factor=2.0, seed=100 * seed + draw)

    found = [score(base, again(seed), draws=4) for seed in range(12)]
    values = torch.tensor([estimate.value for estimate in found])
    stated = torch.tensor([estimate.stderr for estimate in found]).square().mean().sqrt() / widening(4)
    assert 0.5 < float(stated / values.std()) < 1.8
    assert float(((values - values.mean()).abs() < 2 * stated * widening(4)).double().mean()) > 0.8


def test_new_weights_inject_more_than_copies() -> None:
    base = network("mlp", torch.float64)
    copies, drawn = (
        score(base, lambda small, draw, name=name: expand(small, name, factor=2.0, seed=draw)).value
        for name in ("net2wider", "random_pad")
    )
    assert drawn > copies > 0


def test_it_needs_the_base_and_the_expansion() -> None:
    data, model = images(12), network("mlp")
    for given, missing in (({}, "give base="), ({"base": model}, "give expand=")):
        with pytest.raises(UndefinedError, match=missing):
            measure(model, (data.images, data.labels), "injected_randomness", **given)


def test_weights_that_are_no_numbers_are_an_error() -> None:
    broken = network("mlp", torch.float64)
    nn.init.constant_(broken.head.bias, math.nan)
    for match in (True, False):
        with pytest.raises(ScoreError, match=r"not finite number|not a finite number"):
            score(broken, noisy(0.1), match=match)
