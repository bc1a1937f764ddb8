"""PAC-Bayes flatness, plain and magnitude-aware."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.optimize import brentq
from scipy.stats import norm
from torch import nn

from mmbench import measure
from mmbench.data.base import Split
from mmbench.landscape import flatness
from mmbench.landscape.flatness import margins, tolerated_noise
from mmbench.landscape.perturbations import normal
from mmbench.landscape.surface import Surface
from mmbench.testing.networks import images, network

EPSILON = 1e-3


class Signs(nn.Module):
    """Two classes with logits (w'x, 0)."""

    def __init__(self, weights: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weights.clone()[None])

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        margin = pixels.flatten(1) @ self.weight[0]
        return torch.stack([margin, torch.zeros_like(margin)], 1)


def problem(count: int = 60, wrong: int = 5) -> tuple[Signs, Split]:
    """A linear classifier that is wrong on a few images."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.tensor([0.5, -1.0, 2.0, 0.0, 0.1, -0.3], dtype=torch.float64)
    pixels = torch.randn(count, 6, generator=generator, dtype=torch.float64)
    labels = (pixels @ weights < 0).long()
    labels[:wrong] = 1 - labels[:wrong]
    return Signs(weights), Split(pixels.view(count, 1, 2, 3), labels)


def spreads(name: str, model: Signs, sigma: float) -> torch.Tensor:
    weights = model.weight.detach()[0]
    return torch.full_like(weights, sigma) if name == "pac_bayes" else (sigma**2 * weights**2 + EPSILON**2).sqrt()


def expected_drop(name: str, model: Signs, data: Split, sigma: float, slip: str = "") -> float:
    """Under noise of standard deviations s, w'x is normal around itself with standard deviation ||s x||."""
    with torch.no_grad():
        logits = model(data.images)[:, 0] * (1 - 2 * data.labels)
    spread = spreads(name, model, sigma)
    if slip == "variance for standard deviation":
        spread = spread.square()
    if slip == "standard deviation of the magnitude alone":
        spread = sigma * model.weight.detach()[0].abs()
    if slip == "one draw of the noise's size":
        spread = spread / len(spread) ** 0.5
    right = norm.cdf(logits / (spread * data.images.flatten(1)).norm(dim=1))
    drops = (logits > 0).double().numpy() - right
    return float(abs(drops).mean() if slip == "absolute drops" else drops.mean())


def truth(name: str, model: Signs, data: Split, slip: str = "", drop: float = 0.1) -> float:
    sigma = brentq(lambda s: expected_drop(name, model, data, s, slip) - drop, 1e-6, 100)
    return {"1 / sigma": -1.0, "sigma^2": 2.0}.get(slip, -2.0) * math.log(sigma)


def as_it_says(family: str) -> tuple[nn.Module, Split]:
    """A network and images that it classifies rightly."""
    model, pixels = network(family, torch.float64), images(40, torch.float64).images
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():  # the head of some is zero
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
        return model, Split(pixels, model(pixels).argmax(1))


BOTH = pytest.mark.parametrize("name", ["pac_bayes", "pac_bayes_magnitude"])


@BOTH
def test_it_is_the_noise_whose_cost_is_known_for_a_linear_classifier(name: str) -> None:
    model, data = problem()
    estimate = measure(model, (data.images, data.labels), name, pairs=1200)
    assert 0 < estimate.stderr < 0.05
    assert abs(estimate.value - truth(name, model, data)) < 4 * estimate.stderr
    assert estimate.value == pytest.approx(-2 * math.log(estimate.details["sigma"]))
    assert estimate.details["accuracy"] == 55 / 60
    assert estimate.details["limit"] == 0
    slips = [
        "variance for standard deviation",
        "one draw of the noise's size",
        "absolute drops",
        "1 / sigma",
        "sigma^2",
    ]
    for slip in slips:
        assert abs(estimate.value - truth(name, model, data, slip)) > 5 * estimate.stderr, slip


def test_epsilon_moves_the_weights_at_zero() -> None:
    """Most of the margins of these images hang on a weight that is zero."""
    model, data = problem()
    pixels = data.images.flatten(1).clone()
    pixels[:, 3] *= 300
    data = Split(pixels.view_as(data.images), data.labels)
    estimate = measure(model, (data.images, data.labels), "pac_bayes_magnitude", pairs=400)
    slip = truth("pac_bayes_magnitude", model, data, "standard deviation of the magnitude alone")
    assert abs(estimate.value - truth("pac_bayes_magnitude", model, data)) < 4 * estimate.stderr
    assert abs(estimate.value - slip) > 5 * estimate.stderr
    without = measure(model, (data.images, data.labels), "pac_bayes_magnitude", pairs=400, epsilon=0.0)
    assert abs(without.value - slip) < 4 * without.stderr


@BOTH
def test_its_standard_error_is_honest(name: str) -> None:
    model, data = problem()
    exact, trials = truth(name, model, data), 40
    found = [measure(model, (data.images, data.labels), name, pairs=8, seed=seed) for seed in range(trials)]
    errors = torch.tensor([(estimate.value - exact) / estimate.stderr for estimate in found])
    rms = errors.square().mean() ** 0.5  # twice that if the error were half
    assert 0.8 < rms < 1.6  # Student's 1.2 for eight pairs, and what the slope adds
    assert abs(float(torch.corrcoef(torch.stack([errors[:-1], errors[1:]]))[0, 1])) < 4 / trials**0.5


@pytest.mark.parametrize("family", ["mlp", "vit"])
def test_the_crossing_is_found_to_the_resolution_of_the_search(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    surface = Surface(*as_it_says(family))
    coarse, fine = [], []
    for seed in range(3):
        for halvings, found in ((flatness.HALVINGS, coarse), (12, fine)):
            monkeypatch.setattr(flatness, "HALVINGS", halvings)
            generator = torch.Generator().manual_seed(seed)
            found.append(tolerated_noise(surface, lambda s: s, 0.1, 6, generator))
        assert abs(math.log(coarse[-1].sigma / fine[-1].sigma)) < max(0.02, coarse[-1].log_stderr / 2)
    assert all(tolerance.limit == 0 for tolerance in coarse)


def test_the_crossing_is_exact_where_margins_are_straight_lines() -> None:
    """With the same draws, the drop is within bounds just below sigma and out of them just above."""
    model, data = problem()
    surface = Surface(model, data)
    start = surface.point.clone()
    found = tolerated_noise(surface, lambda sigma: sigma, 0.1, 5, torch.Generator().manual_seed(3))
    seeds = torch.randint(2**62, (5,), generator=torch.Generator().manual_seed(3)).tolist()

    def drop(sigma: float) -> float:
        right = []
        for seed in seeds:
            noise = normal(start, torch.Generator().manual_seed(seed))
            for sign in (1, -1):
                surface.point.copy_(start + sign * sigma * noise)
                right.append((margins(surface) > 0).double().mean())
        return 55 / 60 - float(sum(right)) / len(right)

    assert drop(found.sigma * (1 - 1e-9)) <= 0.1 < drop(found.sigma * (1 + 1e-9))
    assert found.drop <= 0.1


def test_a_larger_drop_takes_more_noise() -> None:
    model, data = problem()
    values = [measure(model, (data.images, data.labels), "pac_bayes", drop=drop).value for drop in (0.02, 0.1, 0.3)]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("pairs", [1, 8])
@BOTH
def test_accuracy_that_never_falls_gives_the_limit_of_the_search(name: str, pairs: int) -> None:
    """All wrong: noise can only improve it, which the absolute value of the drop would count against it."""
    model, data = problem(wrong=60)
    estimate = measure(model, (data.images, data.labels), name, pairs=pairs)
    assert estimate.value == -2 * math.log(16)
    assert estimate.stderr is None
    assert estimate.details["limit"] == 1
    assert estimate.details["accuracy_drop"] < 0


def test_accuracy_that_always_falls_gives_the_other_limit() -> None:
    model, data = problem()
    estimate = measure(model, (data.images, data.labels), "pac_bayes_magnitude", epsilon=50.0)
    assert estimate.value == 40 * math.log(2)
    assert estimate.stderr is None
    assert estimate.details["limit"] == -1


def test_one_pair_cannot_tell_its_error() -> None:
    model, data = problem()
    assert measure(model, (data.images, data.labels), "pac_bayes", pairs=1).stderr is None


def test_an_overflow_is_a_wrong_answer() -> None:
    model, data = network("resnet"), images(20)
    surface = Surface(model, data)
    with torch.no_grad():
        surface.point.mul_(1e30)
    found = margins(surface)
    assert found.isfinite().all()
    assert torch.lerp(found, -found, 0.5).isfinite().all()
    assert not (found[~model(data.images).isfinite().all(1)] > 0).any()


def test_margins_are_the_labels_logit_over_the_best_other() -> None:
    model, data = network("vit", torch.float64), images(20, torch.float64)
    logits = model(data.images).tolist()
    by_hand = [
        row[label] - max(row[:label] + row[label + 1 :])
        for row, label in zip(logits, data.labels.tolist(), strict=True)
    ]
    assert margins(Surface(model, data)).tolist() == pytest.approx(by_hand, rel=1e-9)


@BOTH
def test_magnitude_aware_noise_does_not_mind_a_rescaling_of_layers(name: str) -> None:
    values = []
    for factor in (1.0, 8.0):
        model, data = as_it_says("mlp")
        first, second = [module for module in model.modules() if isinstance(module, nn.Linear)][:2]
        with torch.no_grad():
            first.weight *= factor
            first.bias *= factor
            second.weight /= factor
        options = {"epsilon": 0.0} if name == "pac_bayes_magnitude" else {}
        values.append(measure(model, (data.images, data.labels), name, **options).value)
    assert (values[1] == pytest.approx(values[0], rel=1e-6)) is (name == "pac_bayes_magnitude")
