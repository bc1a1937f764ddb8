"""Local learning coefficient and local volume."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy.stats import t as student
from torch import nn
from torch.nn.functional import softplus

from mmbench import measure
from mmbench.data.base import Split
from mmbench.errors import ScoreError
from mmbench.landscape import rays
from mmbench.landscape.langevin import effective_size, langevin_chain, split_r_hat, trend
from mmbench.landscape.perturbations import normal
from mmbench.landscape.rays import Divergence, reach
from mmbench.landscape.surface import Surface
from mmbench.models.base import MODELS
from mmbench.testing.networks import images, network


class Logistic(nn.Module):
    """Two classes with logits (w'x, 0)."""

    def __init__(self, weights: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weights.clone()[None])

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        margin = pixels.flatten(1) @ self.weight[0]
        return torch.stack([margin, torch.zeros_like(margin)], 1)


def minimum(count: int, size: int) -> tuple[Logistic, Split]:
    """Logistic regression at its minimum, found by Newton's method."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(count, size, generator=generator, dtype=torch.float64)
    true = torch.linspace(-1, 1, size, dtype=torch.float64)
    labels = (torch.rand(count, generator=generator) > torch.sigmoid(pixels @ true)).long()
    weights = torch.zeros(size, dtype=torch.float64)
    for _ in range(20):
        chance = torch.sigmoid(pixels @ weights)
        gradient = pixels.T @ (chance - (1 - labels.double())) / count
        weights = weights - torch.linalg.solve(curvature(pixels, weights), gradient)
    return Logistic(weights), Split(pixels.view(count, 1, 1, size), labels)


def curvature(pixels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Hessian of logistic regression, which is its Fisher information, too."""
    chance = torch.sigmoid(pixels @ weights)
    return (pixels * (chance * (1 - chance))[:, None]).T @ pixels / len(pixels)


def exact_coefficient(model: Logistic, data: Split, gamma: float, scale: float) -> float:
    """scale (E[L] - L(w*)) for two weights, by summing over a grid."""
    centre, pixels = model.weight.detach()[0], data.images.flatten(1)
    line = torch.linspace(-2.5, 2.5, 161, dtype=torch.float64)
    offsets = torch.cartesian_prod(line, line)
    signs = 1 - 2 * data.labels.double()
    losses = torch.cat([softplus(-signs * ((centre + part) @ pixels.T)).mean(1) for part in offsets.split(5000)])
    rises = losses - softplus(-signs * (pixels @ centre)).mean()
    weights = (-scale * rises - gamma / 2 * offsets.square().sum(1)).softmax(0)
    return scale * float((weights * rises).sum())


LONG = {"chains": 4, "burn_in": 100, "steps": 1200, "images": 400, "batch_size": 400}


@pytest.mark.parametrize("gamma", [0.0, 20.0])
def test_the_coefficient_of_a_regular_model_is_half_its_parameters(gamma: float) -> None:
    """Less what the localisation confines; a grid knows the exact value."""
    model, data = minimum(400, 2)
    scale = 400 / math.log(400)
    options = {"localisation": gamma, "step_size": 0.003 if gamma else 0.03}
    estimate = measure(model, (data.images, data.labels), "local_learning_coefficient", **LONG, **options)
    truth = exact_coefficient(model, data, gamma, scale)
    assert 0 < estimate.stderr < 0.15
    assert abs(estimate.value - truth) < 3 * estimate.stderr
    assert truth == pytest.approx(1, abs=0.1) if gamma == 0 else truth < 0.7
    assert estimate.details["settled"] == 1
    assert estimate.details["negative"] == 0
    assert estimate.details["r_hat"] < 1.05
    assert estimate.details["heat"] == pytest.approx(1, abs=0.1)
    assert estimate.details["virial"] == pytest.approx(1, abs=0.15)
    slips = {
        "batch size for n": exact_coefficient(model, data, gamma, 64 / math.log(64)) if gamma else math.nan,
        "twice": 2 * truth,
        "without n beta": truth / scale,
        "beta = 1": exact_coefficient(model, data, gamma, 400) if gamma else math.nan,
        "downwards": -truth,
    }
    assert all(math.isnan(slip) or abs(estimate.value - slip) > 3 * estimate.stderr for slip in slips.values())


def test_batches_that_are_not_too_small_leave_the_coefficient_as_it_is_and_others_are_noticed() -> None:
    model, data = minimum(400, 2)
    truth = exact_coefficient(model, data, 20.0, 400 / math.log(400))
    options = {**LONG, "localisation": 20.0, "step_size": 0.003, "steps": 500}
    fine, hot = (
        measure(model, (data.images, data.labels), "local_learning_coefficient", **options | {"batch_size": size})
        for size in (200, 2)
    )
    assert abs(fine.value - truth) < 3 * fine.stderr + 0.1 * truth
    assert hot.value > 1.5 * truth
    assert hot.details["heat"] > 1.5
    assert hot.details["settled"] == 0


class Landscape(nn.Module):
    """Logits (l, 0) of l = log(exp(L(w) + log 2) - 1): at label 1, the loss is L(w) + log 2, whatever the image."""

    def __init__(self, loss: Callable[[torch.Tensor], torch.Tensor], count: int) -> None:
        super().__init__()
        self.loss, self.weights = loss, nn.Parameter(torch.zeros(count, dtype=torch.float64))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        height = self.loss(self.weights) + math.log(2)
        logit = height + torch.log(-torch.expm1(-height))
        return torch.stack([logit.expand(len(pixels)), pixels.new_zeros(len(pixels))], 1)


def singular(pairs: torch.Tensor) -> torch.Tensor:
    """sum of w^2 v^2: lambda of a pair is 1/4 in the limit."""
    w, v = pairs.view(2, -1)
    return (w * w * v * v).sum()


def quadratic(weights: torch.Tensor) -> torch.Tensor:
    return (torch.logspace(-2, 1, len(weights), dtype=torch.float64) * weights * weights).sum() / 2


def exact(kind: str, count: int, gamma: float) -> float:
    """Of the localised density, at n = 256: in closed form, or on a grid."""
    scale = 256 / math.log(256)
    if kind == "quadratic":
        stiff = scale * torch.logspace(-2, 1, count, dtype=torch.float64)
        return float((stiff / (stiff + gamma)).sum()) / 2
    line = torch.linspace(-6, 6, 1201, dtype=torch.float64) / gamma**0.5
    w, v = torch.meshgrid(line, line, indexing="ij")
    rises = scale * w * w * v * v
    weights = (-rises - gamma / 2 * (w * w + v * v)).flatten().softmax(0)
    return count / 2 * float(weights @ rises.flatten())


@pytest.mark.parametrize("count", [8, 64, 512])
@pytest.mark.parametrize(("kind", "loss"), [("quadratic", quadratic), ("singular", singular)])
def test_the_defaults_measure_the_local_coefficient(kind: str, loss: Any, count: int) -> None:
    """And chains that are too short, though steady, say that they have not settled."""
    model = Landscape(loss, count)
    data = torch.zeros(256, 1, 2, 2, dtype=torch.float64), torch.ones(256, dtype=torch.long)
    estimate = measure(model, data, "local_learning_coefficient")
    truth = exact(kind, count, 1.0)
    assert abs(estimate.value - truth) < 2.5 * estimate.stderr + 0.03 * truth
    assert abs(estimate.value - truth) < 0.35 * truth
    short = measure(model, data, "local_learning_coefficient", step_size=3e-7)
    assert short.value < 0.7 * truth
    assert short.details["settled"] == 0
    assert exact(kind, count, 300.0) < 0.6 * truth  # what a strong pull hides


def test_weights_without_influence_do_not_count() -> None:
    model, data = minimum(400, 2)
    wide = Logistic(torch.cat([model.weight.detach()[0], torch.ones(3, dtype=torch.float64)]))
    padded = torch.cat([data.images, torch.zeros(400, 1, 1, 3, dtype=torch.float64)], 3)
    options = LONG | {"localisation": 20.0, "step_size": 0.01, "steps": 300}
    narrow = measure(model, (data.images, data.labels), "local_learning_coefficient", **options)
    wide = measure(wide, (padded, data.labels), "local_learning_coefficient", **options)
    assert abs(wide.value - narrow.value) < 4 * math.hypot(wide.stderr, narrow.stderr)


def test_a_point_on_a_slope_has_a_negative_one_and_says_so() -> None:
    model, data = minimum(400, 2)
    away = Logistic(model.weight.detach()[0] + 3)
    options = {"localisation": 1.0, "step_size": 1e-3, "burn_in": 10, "steps": 90}
    estimate = measure(away, (data.images, data.labels), "local_learning_coefficient", **options)
    assert estimate.value < -1
    assert estimate.details["negative"] == 1
    assert estimate.details["settled"] == 0


def test_a_chain_that_leaves_the_finite_numbers_is_an_error() -> None:
    data = images(20)
    with pytest.raises(ScoreError, match=r"not a finite number; lower metric\.step_size"):
        measure(network("mlp"), (data.images, data.labels), "local_learning_coefficient", step_size=1e30)


def test_one_chain_cannot_tell_its_error() -> None:
    model, data = minimum(40, 2)
    estimate = measure(model, (data.images, data.labels), "local_learning_coefficient", chains=1, steps=20)
    assert estimate.stderr is None
    assert estimate.details.keys() == {"r_hat", "effective_size", "negative", "virial", "heat"}


def test_a_step_is_that_of_the_splitting() -> None:
    surface = Surface(*minimum(30, 2))
    start, h, scale, gamma = surface.point.clone(), 0.3**0.5, 9.0, 2.0

    def force(point: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, float]:
        surface.point.copy_(point)
        loss, gradient = surface.loss_and_gradient()
        return scale * gradient + gamma * (point - start), gradient, loss

    options = {"step_size": h**2, "temperature": 1 / scale, "localisation": gamma, "batch_size": 30}
    chain = langevin_chain(surface, torch.Generator().manual_seed(5), steps=4, **options)
    generator = torch.Generator().manual_seed(5)
    w, p, kept = start.clone(), normal(start, generator), math.exp(-2 * gamma**0.5 * h)
    rows, first = [], force(start)[2]
    for step in range(4):
        torch.randperm(30, generator=generator)
        total, gradient, loss = force(w)
        if step:
            p = p - h / 2 * total
        rows.append((loss - first, float((w - start) @ total) / 2, float(p @ gradient / gradient.norm()) ** 2))
        w = w + h / 2 * (p - h / 2 * total)
        p = kept * (p - h / 2 * total) + (1 - kept**2) ** 0.5 * normal(start, generator)
        w = w + h / 2 * p
    surface.point.copy_(start)
    for found, expected in zip(zip(*chain, strict=True), rows, strict=True):
        assert [float(x) for x in found[:2]] == pytest.approx(list(expected[:2]), rel=1e-6, abs=1e-12)
    assert chain.heats[1:].tolist() == pytest.approx([row[2] for row in rows[1:]], rel=1e-6)


def autoregressive(correlation: float, chains: int, length: int) -> torch.Tensor:
    noise = torch.randn(chains, length, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    draws = [noise[:, 0] / (1 - correlation**2) ** 0.5]
    for step in range(1, length):
        draws.append(correlation * draws[-1] + noise[:, step])
    return torch.stack(draws, 1)


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_the_effective_size_of_an_autoregressive_chain(correlation: float) -> None:
    truth = 4 * 4000 * (1 - correlation) / (1 + correlation)
    assert effective_size(autoregressive(correlation, 4, 4000)) == pytest.approx(truth, rel=0.15)


def test_r_hat_is_one_for_chains_that_agree_and_large_for_those_that_do_not() -> None:
    draws = autoregressive(0.3, 4, 2000)
    assert split_r_hat(draws) == pytest.approx(1, abs=0.01)
    apart = draws + torch.arange(4)[:, None]
    halves = torch.cat([apart[:, :1000], apart[:, 1000:]])
    within, between = halves.var(1).mean(), halves.mean(1).var()
    assert split_r_hat(apart) == pytest.approx(float(((999 / 1000 * within + between) / within) ** 0.5))
    assert split_r_hat(apart) > 1.3
    drifting = draws + torch.linspace(0, 5, 2000)
    assert split_r_hat(drifting) > 1.3


def test_the_trend_is_students_t_over_the_chains() -> None:
    settled = torch.tensor([trend(part) for part in autoregressive(0.8, 2000, 100).split(4)])
    assert 0.85 < (settled.abs() < student.ppf(0.95, 3)).double().mean() < 0.95
    drifting = autoregressive(0.98, 4, 200) + torch.linspace(0, 20, 200)
    assert trend(drifting) > student.ppf(0.995, 3)
    assert math.isnan(trend(drifting[:1]))


def ellipsoid(size: int = 4) -> tuple[Logistic, Split, torch.Tensor]:
    """A network whose divergence is u' F u r^2 / 2 near by, and F."""
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randn(15, size, generator=generator, dtype=torch.float64) * torch.linspace(0.5, 1.5, size)
    weights = torch.linspace(-0.5, 0.5, size, dtype=torch.float64)
    return Logistic(weights), Split(pixels.view(15, 1, 1, size), torch.arange(15) % 2), curvature(pixels, weights)


def log_ball(size: int) -> float:
    return size / 2 * math.log(math.pi) - math.lgamma(size / 2 + 1)


def test_the_volume_of_an_ellipsoid_has_a_closed_form() -> None:
    """det(F / 2c)^(-1/2) times the unit ball's; and the score is the mean of log r, by a million draws of u."""
    model, data, fisher = ellipsoid()
    cutoff, count = 1e-6, 1500
    estimate = measure(model, (data.images, data.labels), "basin_volume", cutoff=cutoff, directions=count)
    volume = log_ball(4) + 2 * math.log(2 * cutoff) - 0.5 * float(torch.logdet(fisher))
    u = torch.randn(1_000_000, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    u /= u.norm(dim=1, keepdim=True)
    log_radii = 0.5 * (math.log(2 * cutoff) - ((u @ fisher) * u).sum(1).log())
    error = float((4 * log_radii).exp().std() / (4 * log_radii).exp().mean()) / count**0.5
    truth = float(log_radii.mean()) + log_ball(4) / 4
    assert abs(estimate.details["log_volume"] - volume) < 4 * error
    assert estimate.details["log_volume_per_parameter"] == pytest.approx(estimate.details["log_volume"] / 4)
    assert abs(estimate.value - truth) < 4 * estimate.stderr
    assert estimate.stderr == pytest.approx(float(log_radii.std()) / count**0.5, rel=0.1)
    assert estimate.details["radius"] == pytest.approx(math.exp(estimate.value - log_ball(4) / 4))
    assert estimate.value < volume / 4
    assert estimate.details["beyond_reach"] == estimate.details["not_converged"] == 0
    slips = {
        "without the unit ball": truth - log_ball(4) / 4,
        "the raw log volume": volume,
        "cutoff for twice the cutoff": truth - 0.5 * math.log(2),
        "the unit ball not per parameter": truth + 0.75 * log_ball(4),
        "the radius itself": math.exp(truth),
        "its square": 2 * truth,
    }
    assert all(abs(estimate.value - slip) > 6 * estimate.stderr for slip in slips.values())


def test_in_a_ball_the_score_is_the_log_volume_per_parameter() -> None:
    """Images along the axes at w = 0: F = I / 4."""
    size, pixels = 6, torch.eye(6, dtype=torch.float64).view(6, 1, 2, 3) * 6**0.5
    data = pixels, torch.arange(6) % 2
    small = Logistic(torch.linspace(1e-3, 1e-2, size, dtype=torch.float64))
    estimate = measure(small, data, "basin_volume", cutoff=1e-8, directions=20)
    assert estimate.value == pytest.approx(math.log((8e-8) ** 0.5) + log_ball(size) / size, abs=2e-3)
    assert estimate.details["log_volume_per_parameter"] == pytest.approx(estimate.value, abs=2e-3)
    assert estimate.stderr < 1e-3


@pytest.mark.parametrize("family", MODELS.names())
def test_the_divergence_at_the_radius_is_the_cutoff(family: str) -> None:
    surface = Surface(network(family, torch.float64), images(20, torch.float64))
    start, logits = surface.point.clone(), surface.logits()
    divergence, generator = Divergence(surface), torch.Generator().manual_seed(0)
    for first in (-9.0, -1.0, 4.0):
        direction = normal(start, generator)
        direction /= direction.norm()
        found = reach(divergence, direction, 0.01, first, 8.0)
        assert torch.equal(surface.point, start)
        surface.point.copy_(start + math.exp(found.log_radius) * direction)
        anchor, moved = logits.log_softmax(1), surface.logits().log_softmax(1)
        surface.point.copy_(start)
        assert (anchor.exp() * (anchor - moved)).sum(1).mean().item() == pytest.approx(0.01, rel=0.01)
        assert found.state == 0
        assert found.tries <= 20


@pytest.mark.parametrize(
    ("function", "log_radius", "state"),
    [
        (lambda r: r**2, -2.3, 0),
        (lambda r: r**8, -0.5756, 0),
        (lambda r: r**0.5, -9.21, 0),
        (lambda r: 0.0 if r < 3 else math.inf, math.log(3), 0),
        (lambda r: 1e-12 if r < 3 else 0.5, math.log(3), 0),
        (lambda r: min(r**2, 0.009), 8.0, 1),
        (lambda r: 0.0, 8.0, 1),
        (lambda r: math.inf, None, -1),
        (lambda r: 5.0, None, -1),
        (lambda r: r**2 * (1.5 + math.sin(40 * r)), None, 0),
    ],
)
@pytest.mark.parametrize("first", [-6.0, 0.0, 7.9])
def test_the_search_ends_well_on_every_kind_of_ray(
    function, log_radius: float | None, state: int, first: float
) -> None:
    found = reach(lambda direction, radius: function(radius), torch.zeros(1), 0.01, first, 8.0)
    assert found.state == state
    assert found.tries <= rays.TRIES
    if log_radius is not None:
        assert found.log_radius == pytest.approx(log_radius, abs=0.01)
    elif state == 0:
        assert function(math.exp(found.log_radius)) == pytest.approx(0.01, rel=0.02)


class Bounded(Logistic):
    """Logits that cannot change by much."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return 0.01 * super().forward(pixels).tanh()


def test_a_direction_without_an_end_counts_as_the_largest_radius() -> None:
    model, data, _ = ellipsoid()
    options = {"directions": 5, "largest": 3.0}
    estimate = measure(Bounded(model.weight.detach()[0]), (data.images, data.labels), "basin_volume", **options)
    assert estimate.details["beyond_reach"] == 5
    assert estimate.value == pytest.approx(math.log(3 * 4**0.5) + log_ball(4) / 4)
    assert estimate.details["log_volume"] == pytest.approx(4 * estimate.value)


def test_the_score_does_not_measure_size() -> None:
    """Twice as many parameters, each half as stiff: log V doubles, the score stays."""
    found = []
    for size in (64, 128):
        pixels = torch.eye(size, dtype=torch.float64).view(size, 1, 1, size) * 4
        data = pixels, torch.arange(size) % 2
        weights = torch.linspace(1e-3, 1e-2, size, dtype=torch.float64)
        found.append(measure(Logistic(weights), data, "basin_volume", cutoff=1e-8, directions=4))
    assert found[1].details["log_volume"] / found[0].details["log_volume"] == pytest.approx(2, rel=0.05)
    assert found[1].value == pytest.approx(found[0].value, abs=0.03)
