"""Fisher and Gauss-Newton traces, spectra of the Hessian, and the tangent kernel, against dense float64 matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from mmbench import measure, measure_all
from mmbench.errors import ScoreError, UndefinedError
from mmbench.metrics.base import METRICS, Estimate

from .conftest import Linear
from .oracle import TINY, hessian, jacobian, problem

each_family = pytest.mark.parametrize("family", TINY)


def measured(family: str, metric: str, **options: object) -> Estimate:
    model, data = problem(family)
    return measure(model, (data.images, data.labels), metric, **options)


def probabilities(family: str) -> Tensor:
    model, data = problem(family)
    with torch.no_grad():
        return model(data.images).softmax(1)


def gauss_newton(family: str) -> Tensor:
    j, p = jacobian(family), probabilities(family)
    s = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    return torch.einsum("ncp,ncd,ndq->pq", j, s, j) / len(p)


@each_family
def test_gauss_newton_and_fisher_traces_are_exact(family: str) -> None:
    truth = float(gauss_newton(family).trace())
    for metric in ("ggn_trace", "fisher_trace"):
        estimate = measured(family, metric)
        assert estimate.value == pytest.approx(truth, rel=1e-10)
        assert estimate.stderr == 0
        assert estimate.details["image_stderr"] > 0


@each_family
def test_the_fisher_trace_is_the_expectation_over_the_models_own_labels(family: str) -> None:
    j, p = jacobian(family), probabilities(family)
    scores = torch.einsum("nyc,ncp->nyp", torch.eye(3, dtype=torch.float64) - p[:, None], j)
    truth = float((p * scores.square().sum(2)).sum(1).mean())
    assert measured(family, "fisher_trace").value == pytest.approx(truth, rel=1e-10)


@each_family
def test_the_empirical_fisher_trace_has_the_true_labels(family: str) -> None:
    j, p = jacobian(family), probabilities(family)
    residuals = p - one_hot(problem(family)[1].labels, 3)
    gradients = torch.einsum("nc,ncp->np", residuals, j)
    value = measured(family, "empirical_fisher_trace").value
    assert value == pytest.approx(float(gradients.square().sum(1).mean()), rel=1e-10)
    mutants = {
        "norm of the mean gradient": float(gradients.mean(0).square().sum()),
        "sum over the images": float(gradients.square().sum()),
        "the model's own labels": float(gauss_newton(family).trace()),
        "not squared": float(gradients.norm(dim=1).mean()),
    }
    for name, mutant in mutants.items():
        assert abs(mutant / value - 1) > 1e-2, name


@each_family
def test_the_top_eigenvalue_is_within_its_bound(family: str) -> None:
    values = torch.linalg.eigvalsh(hessian(family))
    for tolerance in (0.1, 1e-7):
        estimate = measured(family, "top_eigenvalue", tolerance=tolerance, steps=300)
        assert estimate.stderr <= tolerance * estimate.value
        slack = 1e-6 * float(values[-1])
        assert float((values - estimate.value).abs().min()) <= estimate.stderr + slack
        assert estimate.value <= float(values[-1]) + slack
    assert estimate.value == pytest.approx(float(values[-1]), rel=1e-5)
    few = measured(family, "top_eigenvalue", tolerance=1e-12, steps=3)
    assert (few.details["products"], few.value < float(values[-1])) == (3, True)


def test_the_top_eigenvalue_has_its_sign() -> None:
    """Power iteration finds the largest absolute value, which is another one here."""
    values = torch.linalg.eigvalsh(hessian("mixer"))
    model, data = problem("mixer")
    labels = model(data.images).argmin(1)  # the worst labels: strong negative curvature
    estimate = measure(model, (data.images, labels), "top_eigenvalue", tolerance=1e-6, steps=300)
    assert estimate.value > 0
    assert estimate.details["smallest"] < -0.05 * estimate.value
    assert abs(float(values[-1]) - estimate.value) > 1e-3


def test_an_exhausted_space_ends_the_iteration() -> None:
    images, labels = torch.randn(3, 1, 2, 2, dtype=torch.float64), torch.arange(3)
    estimate = measure(Linear(4, 3), (images, labels), "top_eigenvalue", tolerance=1e-15, steps=500)
    outer = torch.einsum("np,nq->pq", images.flatten(1), images.flatten(1)) / 3
    assert estimate.value == pytest.approx(float(torch.linalg.eigvalsh(outer)[-1]) / 3, rel=1e-10)
    assert estimate.details["products"] <= 12


def scalars(values: np.ndarray) -> dict[str, float]:
    positive = values.clip(min=0)
    return {
        "negative_mass": float(np.abs(values.clip(max=0)).sum() / np.abs(values).sum()),
        "effective_dimension": float((positive / (positive + 0.01)).sum()),
    }


@each_family
def test_scalars_of_a_small_spectrum_are_exact(family: str) -> None:
    """Where the Hessian has no more columns than there would be products."""
    truths = scalars(torch.linalg.eigvalsh(hessian(family)).numpy())
    for metric, truth in truths.items():
        estimate = measured(family, metric, probes=2, steps=200)
        assert estimate.value == pytest.approx(truth, rel=1e-3)
        assert estimate.stderr == 0
        assert measured(family, metric, probes=1, steps=9).stderr is None


@pytest.mark.parametrize(("family", "steps"), [("mlp", 12), ("resnet", 6), ("vit", 8)])
def test_the_standard_error_of_a_spectrum_covers_it(family: str, steps: int) -> None:
    """With few probes and few steps: the error of the steps, which more probes would not show, is in it."""
    (model, data), truths = problem(family), scalars(torch.linalg.eigvalsh(hessian(family)).numpy())
    metrics = [METRICS.create({"name": name, "probes": 3, "steps": steps}) for name in truths]
    seeds = [measure_all(model, (data.images, data.labels), metrics, seed=seed) for seed in range(25)]
    for name, truth in truths.items():
        found = [results[name] for results in seeds]
        assert len({estimate.value for estimate in found}) > 1
        assert sum(abs(estimate.value - truth) <= 2 * estimate.stderr for estimate in found) >= 21, name
        parts = [(e.details["probe_error"], e.details["step_error"]) for e in found]
        assert [e.stderr for e in found] == pytest.approx([(p**2 + s**2) ** 0.5 for p, s in parts])


def test_the_effective_dimension_of_softmax_regression_has_a_closed_form() -> None:
    """At zero weights H = (I / C - 1 / C^2) x X'X / N: each eigenvalue of X'X / (N C) comes C - 1 times."""
    images = torch.randn(40, 1, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    labels = torch.arange(40) % 4
    values = torch.linalg.eigvalsh(images.flatten(1).T @ images.flatten(1)) / 40 / 4
    truth = 3 * float((values / (values + 0.2)).sum())
    estimate = measure(Linear(9, 4), (images, labels), "effective_dimension", z=0.2, probes=11, steps=3)
    assert estimate.value == pytest.approx(truth, abs=4 * estimate.stderr)
    assert estimate.stderr < 0.2 * truth
    negative = measure(Linear(9, 4), (images, labels), "negative_mass", probes=5, steps=40)
    assert negative.value == pytest.approx(0, abs=1e-12)


@each_family
def test_the_effective_rank_is_that_of_the_kernel(family: str) -> None:
    j = jacobian(family).flatten(0, 1)
    p = torch.linalg.eigvalsh(j @ j.T).clamp_min(1e-300)
    p /= p.sum()
    truth = float(torch.exp(-(p * p.log()).sum()))
    estimate = measured(family, "ntk_effective_rank")
    assert estimate.value == pytest.approx(truth, rel=1e-8)
    assert 1 <= estimate.value <= len(j)
    mutants = {
        "participation ratio": float(1 / p.square().sum()),
        "of singular values": float(torch.exp(-(q := p.sqrt() / p.sqrt().sum()) @ q.log())),
        "binary logarithm": float(torch.exp(-(p * p.log2()).sum())),
    }
    for name, mutant in mutants.items():
        assert abs(mutant / truth - 1) > 1e-2, name


def test_the_effective_rank_of_orthogonal_images_is_their_number() -> None:
    images = torch.eye(6, dtype=torch.float64).view(6, 1, 2, 3)
    assert measure(Linear(6, 3), (images, torch.arange(6) % 3), "ntk_effective_rank").value == pytest.approx(18)


def test_a_kernel_of_zeros_or_too_large_is_refused() -> None:
    class Constant(Linear):
        def forward(self, pixels: Tensor) -> Tensor:
            return pixels.flatten(1)[:, :3] + 0 * self.head.bias

    images, labels = torch.randn(5, 1, 3, 3, dtype=torch.float64), torch.arange(5) % 3
    with pytest.raises(ScoreError, match="do not depend on any parameter"):
        measure(Constant(9, 3, bias=True), (images, labels), "ntk_effective_rank")
    with pytest.raises(UndefinedError, match=r"lower metric\.images"):
        measure(Linear(9, 3000), (images, labels), "ntk_effective_rank")


def test_mutants_of_the_traces() -> None:
    truth = measured("vit", "ggn_trace").value
    mutants = {
        "the Hessian's trace": float(hessian("vit").trace()),
        "without the coupling of the classes": float(
            torch.einsum("nc,ncp->", probabilities("vit"), jacobian("vit").square()) / 12
        ),
        "sum over the images": 12 * truth,
        "train-mode loss halved": truth / 2,
    }
    for name, mutant in mutants.items():
        assert abs(mutant / truth - 1) > 1e-2, name
