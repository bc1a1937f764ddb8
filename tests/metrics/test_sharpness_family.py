"""Adaptive, worst-case and average-case sharpness."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.stats import t as student
from torch import nn
from torch.nn.functional import cross_entropy, softplus

from mmbench import measure
from mmbench.data.base import Split
from mmbench.errors import ConfigError, ScoreError
from mmbench.landscape.apgd import Ball, largest_loss
from mmbench.landscape.perturbations import norm, with_normalised_logits
from mmbench.landscape.surface import Surface
from mmbench.models.base import MODELS
from mmbench.testing.networks import images, network


class Logistic(nn.Module):
    """Two classes with logits (w'x, 0)."""

    def __init__(self, weights: list[float]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([weights], dtype=torch.float64))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        margin = pixels.flatten(1) @ self.weight[0]
        return torch.stack([margin, torch.zeros_like(margin)], 1)


WEIGHTS = [0.3, -1.2, 0.0, 0.7]
PIXELS = torch.tensor([0.5, 1.5, -1.0, 2.0], dtype=torch.float64)
ONE = PIXELS.view(1, 1, 2, 2), torch.zeros(1, dtype=torch.long)
MARGIN = (torch.tensor(WEIGHTS, dtype=torch.float64) * PIXELS).sum()
SIZES = torch.tensor(WEIGHTS, dtype=torch.float64).abs()


def rise(shift: torch.Tensor) -> float:
    """Of the one image's loss as its margin falls by `shift`."""
    return float(softplus(shift - MARGIN) - softplus(-MARGIN))


def risen(model: nn.Module, data: Split, step: list[torch.Tensor]) -> float:
    """How far the loss rises as the parameters take a step."""
    with torch.no_grad():
        before = cross_entropy(model(data.images), data.labels).item()
        for parameter, change in zip(model.parameters(), step, strict=True):
            parameter += change
        return cross_entropy(model(data.images), data.labels).item() - before


def asam(model: nn.Module, data: Split, rho: float, eta: float, wrong: str = "") -> float:
    """One step of ASAM, parameter by parameter; `wrong` names a slip."""
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(cross_entropy(model(data.images), data.labels), parameters)
    units = [p.detach().abs() + (0 if wrong == "without eta" else eta) for p in parameters]
    if wrong == "weights only":
        units = [torch.ones_like(u) if u.dim() == 1 else u for u in units]
    ascent = [u * g if wrong == "scaled once" else u * u * g for u, g in zip(units, gradients, strict=True)]
    measured_by = {"norm of the gradient": gradients, "norm of the step": ascent}.get(
        wrong, [u * g for u, g in zip(units, gradients, strict=True)]
    )
    length = torch.cat([m.flatten() for m in measured_by]).norm()
    return risen(model, data, [(-rho if wrong == "downhill" else rho) * a / length for a in ascent])


@pytest.mark.parametrize("family", MODELS.names())
def test_adaptive_sharpness_is_the_mean_over_disjoint_batches(family: str) -> None:
    data = images(30, torch.float64)
    estimate = measure(
        network(family, torch.float64), (data.images, data.labels), "adaptive_sharpness", rho=0.3, batch_size=12
    )
    batches = [Split(data.images[i : i + 12], data.labels[i : i + 12]) for i in (0, 12)]
    rises = [asam(network(family, torch.float64), batch, 0.3, 0.01) for batch in batches]
    assert estimate.value == pytest.approx(sum(rises) / 2, rel=1e-9)
    assert estimate.stderr == pytest.approx(abs(rises[0] - rises[1]) / 2, rel=1e-8)


@pytest.mark.parametrize(
    "slip", ["without eta", "weights only", "scaled once", "norm of the gradient", "norm of the step", "downhill"]
)
def test_slips_in_adaptive_sharpness_would_show(slip: str) -> None:
    data = images(30, torch.float64)
    value = measure(
        network("mlp", torch.float64), (data.images, data.labels), "adaptive_sharpness", rho=0.3, batch_size=30
    ).value
    assert abs(asam(network("mlp", torch.float64), data, 0.3, 0.01, slip) / value - 1) > 1e-4


@pytest.mark.parametrize("eta", [0.0, 0.01, 0.5])
def test_adaptive_sharpness_of_one_image_has_a_closed_form(eta: float) -> None:
    """The margin falls by rho ||T x||."""
    estimate = measure(Logistic(WEIGHTS), ONE, "adaptive_sharpness", rho=0.2, eta=eta)
    assert estimate.value == pytest.approx(rise(0.2 * ((SIZES + eta) * PIXELS).norm()), rel=1e-10)
    assert estimate.stderr is None


def rescaled(model: nn.Module) -> nn.Module:
    """The same function: the first hidden layer's units larger or smaller, what reads them accordingly."""
    with torch.no_grad():
        first, second = [module for module in model.modules() if isinstance(module, nn.Linear)][:2]
        factors = torch.linspace(0.2, 5, len(first.weight), dtype=first.weight.dtype)
        first.weight *= factors[:, None]
        first.bias *= factors
        second.weight /= factors
    return model


@pytest.mark.parametrize(
    ("metric", "options", "invariant"),
    [
        ("adaptive_sharpness", {"eta": 0.0}, True),
        ("adaptive_sharpness", {"eta": 0.01}, False),
        ("sharpness", {}, False),
        ("worst_case_sharpness", {"adaptive": True}, True),
        ("worst_case_sharpness", {"adaptive": True, "norm": "linf"}, True),
        ("worst_case_sharpness", {"adaptive": False}, False),
        ("average_sharpness", {"adaptive": True, "sigma": 0.05}, True),
        ("average_sharpness", {"adaptive": False, "sigma": 0.05}, False),
    ],
)
def test_invariance_under_rescaling_of_relu_units(metric: str, options: dict[str, object], invariant: bool) -> None:
    data = images(30, torch.float64)
    values = [
        measure(model, (data.images, data.labels), metric, **options).value
        for model in (network("mlp", torch.float64), rescaled(network("mlp", torch.float64)))
    ]
    assert (values[1] == pytest.approx(values[0], rel=1e-9)) is invariant


@pytest.mark.parametrize("metric", ["worst_case_sharpness", "average_sharpness"])
def test_normalised_logits_do_not_mind_the_scale_of_a_head(metric: str) -> None:
    """Adaptive noise on a head scaled by 10 is the same noise, scaled by 10."""
    data = images(30, torch.float64)

    def value(factor: float, normalise: bool) -> float:
        model = network("mlp", torch.float64)
        head = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
        with torch.no_grad():
            head.weight *= factor
            head.bias *= factor
        options = {"adaptive": True, "normalise_logits": normalise}
        return measure(model, (data.images, data.labels), metric, **options).value

    assert value(10.0, True) == pytest.approx(value(1.0, True), rel=1e-7)
    assert value(10.0, False) != pytest.approx(value(1.0, False), rel=0.1)


def test_normalised_logits_have_mean_zero_and_mean_square_one() -> None:
    model, data = network("resnet", torch.float64), images(30, torch.float64)
    logits = model(data.images)
    centred = logits - logits.mean(1, keepdim=True)
    truth = cross_entropy(centred / centred.square().mean(1, keepdim=True).sqrt(), data.labels).item()
    surface = with_normalised_logits(Surface(model, data))
    assert surface.loss() == pytest.approx(truth, rel=1e-9)
    assert next(surface.batches(30)).loss_and_gradient()[0] == pytest.approx(truth, rel=1e-9)


@pytest.mark.parametrize("adaptive", [False, True], ids=["plain", "adaptive"])
@pytest.mark.parametrize(("ball", "dual"), [("l2", 2), ("linf", 1)])
def test_the_worst_case_of_one_image_has_a_closed_form(ball: str, dual: int, adaptive: bool) -> None:
    """The margin falls by rho ||c x|| in the dual norm."""
    shift = 0.2 * ((SIZES if adaptive else 1) * PIXELS).norm(p=dual)
    estimate = measure(Logistic(WEIGHTS), ONE, "worst_case_sharpness", rho=0.2, norm=ball, adaptive=adaptive)
    assert estimate.value == pytest.approx(rise(shift), rel=1e-8)
    slips = [0.2 * ((1 if adaptive else SIZES) * PIXELS).norm(p=dual), 0.2 * PIXELS.norm(p=3 - dual), -shift, shift / 2]
    assert all(abs(rise(slip) / estimate.value - 1) > 1e-3 for slip in slips)


@pytest.mark.parametrize("ball", ["l2", "linf"])
def test_the_worst_case_is_that_of_an_exhaustive_search(ball: str) -> None:
    """In two dimensions, where the first step is not yet the best, and some corners of the cube are local maxima."""
    generator = torch.Generator().manual_seed(0)
    pixels, labels = torch.randn(9, 1, 1, 2, generator=generator, dtype=torch.float64), torch.arange(9) % 2
    angle = torch.linspace(0, 2 * math.pi, 20001, dtype=torch.float64)
    ring = torch.stack([angle.cos(), angle.sin()], 1)
    if ball == "linf":
        ring /= ring.abs().amax(1, keepdim=True)
    weights = torch.tensor([0.4, -0.3], dtype=torch.float64)
    signs = 1 - 2 * labels[:, None].double()
    losses = softplus(-signs * (pixels.flatten(1) @ (weights + 1.5 * ring).T)).mean(0)
    truth = float(losses.max() - softplus(-signs[:, 0] * (pixels.flatten(1) @ weights)).mean())
    found = [
        measure(Logistic(weights.tolist()), (pixels, labels), "worst_case_sharpness", rho=1.5, norm=ball, **options)
        for options in ({"steps": 1}, {"steps": 50, "restarts": 9})
    ]
    assert found[1].value == pytest.approx(truth, rel=1e-3)
    assert found[1].value < truth * (1 + 1e-6)
    if ball == "l2":
        assert found[0].value < 0.99 * truth


@pytest.mark.parametrize("family", MODELS.names())
def test_one_step_is_sharpness_and_more_are_no_less(family: str) -> None:
    model, data = network(family, torch.float64), images(24, torch.float64)

    def value(metric: str, **options: int) -> float:
        return measure(model, (data.images, data.labels), metric, rho=0.5, batch_size=12, **options).value

    one = value("sharpness")
    assert value("worst_case_sharpness", steps=1) == pytest.approx(one, rel=1e-9)
    assert value("worst_case_sharpness", steps=15) > 1.001 * one
    assert value("worst_case_sharpness", steps=5, restarts=3) >= value("worst_case_sharpness", steps=5)


@pytest.mark.parametrize("scaled", [False, True], ids=["plain", "adaptive"])
@pytest.mark.parametrize(("ball", "rho"), [("l2", 3.0), ("linf", 0.3)])
def test_the_search_stays_in_the_ball_and_returns_the_best_it_met(ball: str, rho: float, scaled: bool) -> None:
    surface = Surface(network("vit", torch.float64), images(20, torch.float64))
    start = surface.point.clone()
    scale, seen, reported = start.abs() + 0.1 if scaled else None, [], []

    class Watched(Surface):
        def loss_and_gradient(self) -> tuple[float, torch.Tensor]:
            seen.append((self.point - start) / (1 if scale is None else scale))
            found = super().loss_and_gradient()
            reported.append(found[0])
            return found

        def loss(self) -> float:
            seen.append((self.point - start) / (1 if scale is None else scale))
            reported.append(super().loss())
            return reported[-1]

    surface.__class__ = Watched
    first, best = largest_loss(surface, Ball(rho, ball, scale), steps=40)
    lengths = [float(u.norm(p=2 if ball == "l2" else math.inf)) for u in seen]
    assert len(seen) == 41
    assert first == reported[0]
    assert best == max(reported)
    assert max(lengths) < rho * (1 + 1e-9)
    assert torch.equal(surface.point, start)
    assert any(later < earlier for earlier, later in pairwise(reported)), "never a step too long: a dull test"


def test_restarts_leave_a_point_without_slope() -> None:
    """An image with both labels: flat at w = 0, and a rise of log cosh(rho ||x|| / 2) on the sphere."""
    twice = ONE[0].expand(2, -1, -1, -1), torch.arange(2)
    value = {n: measure(Logistic([0.0] * 4), twice, "worst_case_sharpness", rho=0.2, restarts=n).value for n in (1, 2)}
    assert value[1] == 0
    assert value[2] == pytest.approx(math.log(math.cosh(0.1 * PIXELS.norm().item())), rel=1e-6)


def test_a_batch_is_no_larger_than_the_images() -> None:
    for metric in ("adaptive_sharpness", "worst_case_sharpness"):
        with pytest.raises(ConfigError, match=r"metric\.batch_size = 64 must not be larger than metric\.images = 32"):
            measure(Logistic(WEIGHTS), ONE, metric, images=32)


@pytest.mark.parametrize(
    ("metric", "options"),
    [
        ("adaptive_sharpness", {"rho": 1e30}),
        ("worst_case_sharpness", {"rho": 1e30}),
        ("worst_case_sharpness", {"rho": 1e30, "norm": "linf", "restarts": 2}),
        ("average_sharpness", {"sigma": 1e30}),
    ],
)
def test_an_overflow_is_an_error(metric: str, options: dict[str, object]) -> None:
    data = images(10)
    with pytest.raises(ScoreError, match="not a finite number"):
        measure(network("mlp"), (data.images, data.labels), metric, **options)


def smeared(sigma: float, units: torch.Tensor | float = 1.0) -> float:
    """E of the one image's rise over the noise, by quadrature."""
    nodes, weights = map(torch.from_numpy, np.polynomial.hermite_e.hermegauss(80))
    spread = sigma * (units * PIXELS).norm()
    return float(((softplus(spread * nodes - MARGIN) - softplus(-MARGIN)) * weights).sum() / weights.sum())


@pytest.mark.parametrize("adaptive", [False, True], ids=["plain", "adaptive"])
def test_the_average_of_one_image_is_that_of_quadrature(adaptive: bool) -> None:
    options = {"sigma": 0.4, "pairs": 800, "tolerance": 0.0, "adaptive": adaptive}
    estimate = measure(Logistic(WEIGHTS), ONE, "average_sharpness", **options)
    units = SIZES if adaptive else 1.0
    assert estimate.details == {"pairs": 800}
    assert 0 < estimate.stderr < 0.05 * estimate.value
    assert abs(estimate.value - smeared(0.4, units)) < 4 * estimate.stderr
    for slip in (smeared(0.16, units), smeared(0.4, 1.0 if adaptive else SIZES), smeared(0.4**0.5, units)):
        assert abs(estimate.value - slip) > 6 * estimate.stderr


def test_the_average_over_incomplete_batches_is_unbiased_and_its_error_honest() -> None:
    model, data, pairs = network("mlp", torch.float64), images(20, torch.float64), 12

    def value(seed: int, **options: float) -> tuple[float, float]:
        given = {"sigma": 0.1, "tolerance": 0.0, **options}
        estimate = measure(model, (data.images, data.labels), "average_sharpness", seed=seed, **given)
        return estimate.value, estimate.stderr

    truth, error = value(1000, pairs=1500, batch_size=20)
    values, errors = torch.tensor([value(seed, pairs=pairs, batch_size=8) for seed in range(60)]).T
    assert abs(values.mean() - truth) < 4 * (error**2 + values.var() / len(values)) ** 0.5
    rms = ((values - truth) / errors).square().mean() ** 0.5  # twice that if the error were half
    assert rms == pytest.approx(student.std(pairs - 1), rel=0.25)
    assert abs(torch.corrcoef(torch.stack([values[:-1], values[1:]]))[0, 1]) < 4 / 60**0.5


def test_each_batch_has_noise_of_its_own() -> None:
    """Of an image that comes four times: four independent draws a pair, in place of one."""
    four = images(1).images.expand(4, -1, -1, -1), images(1).labels.expand(4)
    options = {"sigma": 0.1, "pairs": 400, "tolerance": 0.0}
    apart, together = (measure(network("mlp"), four, "average_sharpness", batch_size=n, **options) for n in (1, 4))
    assert together.stderr / apart.stderr == pytest.approx(2, rel=0.15)
    assert abs(together.value - apart.value) < 4 * together.stderr


def test_draws_end_once_the_error_is_small_enough() -> None:
    model, data = network("mlp"), images(30)
    loose, tight = (
        measure(model, (data.images, data.labels), "average_sharpness", sigma=0.05, pairs=500, tolerance=tolerance)
        for tolerance in (0.2, 0.05)
    )
    for estimate, tolerance in ((loose, 0.2), (tight, 0.05)):
        assert estimate.stderr <= tolerance * abs(estimate.value)
    assert 8 <= loose.details["pairs"] < tight.details["pairs"] < 500
    capped = measure(model, (data.images, data.labels), "average_sharpness", pairs=9, tolerance=1e-6)
    assert capped.details["pairs"] == 9


def test_pairs_cancel_the_slope() -> None:
    """With a margin far below zero the loss is a slope: single draws scatter by sigma ||x||, pairs hardly at all."""
    estimate = measure(Logistic([-9.0, 9.0, 9.0, -9.0]), ONE, "average_sharpness", sigma=0.01, pairs=16)
    assert estimate.stderr < 1e-3 * 0.01 * PIXELS.norm() / 4


@pytest.mark.parametrize("size", [1e-30, 1e-3, 1e30])
def test_a_norm_survives_squares_that_do_not(size: float) -> None:
    assert norm(torch.full((4,), size)) == pytest.approx(2 * size)
    assert 0 < norm(torch.zeros(4)) < 1e-30
