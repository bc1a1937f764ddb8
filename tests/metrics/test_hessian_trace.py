from __future__ import annotations

import copy
import statistics

import pytest
import torch

from mmbench import measure
from mmbench.testing.networks import WithUnused
from mmbench.training.loop import train
from mmbench.training.recipes import AdamW

from .conftest import Linear
from .oracle import TINY, dense, hessian, problem

RELU = {"mlp", "resnet"}


@pytest.mark.parametrize("family", TINY)
def test_it_is_the_dense_trace(family: str) -> None:
    """Exact without a probe for networks of ReLUs, within its error for the others."""
    model, data = problem(family)
    truth = float(hessian(family).trace())
    estimate = measure(model, (data.images, data.labels), "hessian_trace", tolerance=1e-9, probes=300)
    if family in RELU:
        assert estimate.value == pytest.approx(truth, rel=1e-6)
        assert (estimate.stderr, estimate.details["products"]) == (0.0, 0)
    else:
        assert 0 < estimate.stderr < 0.1 * abs(truth)
        assert abs(estimate.value - truth) < 4 * estimate.stderr
        assert abs(estimate.details["gauss_newton"] - truth) > 0.01 * abs(truth), "tr G is not tr H here"
        assert estimate.details["products"] == 300


@pytest.mark.parametrize("method", ["differences", "hutchinson", "hutchpp", "xtrace"])
def test_the_standard_error_covers_the_truth(method: str) -> None:
    """Though the number of probes is chosen by looking at the error."""
    model, data = problem("vit")
    truth, trials = float(hessian("vit").trace()), 20
    errors, costs = [], set()
    unit = "directions" if method == "differences" else "products"
    for seed in range(trials):
        estimate = measure(
            model, (data.images, data.labels), "hessian_trace", seed=seed, tolerance=0.1, probes=36, method=method
        )
        errors.append((estimate.value - truth) / estimate.stderr)
        costs.add(estimate.details[unit])
    assert 0.6 < statistics.fmean(error**2 for error in errors) ** 0.5 < 1.5  # twice that if the error were half
    assert max(costs) <= 36
    # Neighbouring seeds must share no probe: then their errors are uncorrelated.
    assert abs(float(torch.corrcoef(torch.tensor([errors[:-1], errors[1:]]))[0, 1])) < 3 / trials**0.5


def test_the_control_variate_makes_the_error_smaller() -> None:
    """Where the images are fitted: the rest fades with the slope of the loss, the Gauss-Newton matrix does not."""
    model, data = problem("vit")
    model = copy.deepcopy(model)
    train(model, data, AdamW(steps=150, batch_size=12, lr=0.01), torch.Generator().manual_seed(0))
    matrix = dense(model, data)
    plain = float(2 * (matrix - torch.diag(matrix.diagonal())).square().sum()) ** 0.5 / 100**0.5
    estimate = measure(model, (data.images, data.labels), "hessian_trace", tolerance=1e-9, probes=100)
    assert estimate.stderr < 0.5 * plain


@pytest.mark.parametrize("bias", [False, True], ids=["weights", "weights and bias"])
def test_softmax_regression_at_zero_has_a_closed_form(bias: bool) -> None:
    """H = (I / C - 1 / C^2) x mean of x x', so the trace is (1 - 1 / C) (mean ||x||^2, plus 1 with a bias)."""
    images = torch.randn(20, 1, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(20) % 4
    truth = (1 - 1 / 4) * (images.flatten(1).square().sum(1).mean().item() + bias)
    estimate = measure(Linear(9, 4, bias), (images, labels), "hessian_trace")
    assert estimate.value == pytest.approx(truth, rel=1e-12)


def test_a_parameter_without_influence_adds_nothing() -> None:
    model, data = problem("mlp")
    truth = float(hessian("mlp").trace())
    assert measure(WithUnused(model), (data.images, data.labels), "hessian_trace").value == pytest.approx(truth)


def test_more_probes_make_the_error_smaller() -> None:
    model, data = problem("vit")
    few, many = (
        measure(model, (data.images, data.labels), "hessian_trace", tolerance=1e-9, probes=n) for n in (32, 288)
    )
    assert few.stderr / many.stderr == pytest.approx(3, rel=0.3)
    enough = measure(model, (data.images, data.labels), "hessian_trace", tolerance=0.1, probes=5000)
    assert enough.stderr <= 0.1 * abs(enough.value)
    assert enough.details["directions"] < 5000


def test_differences_agree_with_products() -> None:
    model, data = problem("mixer")
    truth = float(hessian("mixer").trace())
    quick = measure(model, (data.images, data.labels), "hessian_trace", tolerance=0.05, probes=5000)
    assert "products" not in quick.details
    assert abs(quick.value - truth) < 4 * quick.stderr
    assert quick.stderr <= 0.05 * abs(quick.value)


class Softened(torch.nn.Module):
    """Softmax of a linear map: smooth and curved, and not dead where all its weights are zero."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(3, 16, dtype=torch.float64))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (images.flatten(1) @ self.weight.T).softmax(1)


def test_weights_of_zero_give_no_step_to_take() -> None:
    _, data = problem("vit")
    model = Softened()
    estimate = measure(model, (data.images, data.labels), "hessian_trace", tolerance=1e-9, probes=600)
    quick = measure(model, (data.images, data.labels), "hessian_trace")
    truth = float(dense(model, data).trace())
    assert abs(estimate.value - truth) < 4 * estimate.stderr
    assert abs(quick.value - truth) < 4 * quick.stderr + 0.01 * abs(truth)


def test_where_differences_fail_products_are_taken() -> None:
    """Of a smooth network with one kink."""
    model, data = problem("vit")
    kinked = torch.nn.Sequential(copy.deepcopy(model), torch.nn.LeakyReLU()).double()
    kinked = measure(kinked, (data.images, data.labels), "hessian_trace", probes=8)
    assert kinked.details["products"] > 0
