from __future__ import annotations

import pytest
import torch
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from mmbench import measure
from mmbench.data.base import InputShape, Split
from mmbench.landscape import surface
from mmbench.registry import MODELS

from .conftest import Linear, WithUnused

SHAPE = InputShape(channels=1, image_size=4, classes=3)
TINY = {
    "mlp": {"hidden": (3,)},
    "resnet": {"channels": (2, 3), "layers": (1, 1)},
    "vit": {"embed_dim": 4, "heads": 2, "hidden": 4, "layers": 1, "patch_size": 2},
}


def problem(family: str, count: int = 12) -> tuple[torch.nn.Module, Split]:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        data = Split(torch.randn(count, 1, 4, 4, dtype=torch.float64), torch.arange(count) % 3)
        model = MODELS.create({"name": family, **TINY[family]}).build(SHAPE).double()
        with torch.no_grad():
            model.train()(data.images)  # running statistics other than 0 and 1
            for parameter in model.parameters():
                parameter += 0.3 * torch.randn_like(parameter)
    return model.eval(), data


def dense_trace(model: torch.nn.Module, data: Split) -> float:
    """The sum of all second derivatives, each by a central difference of gradients: without double backward."""
    parameters = {name: p.detach().clone() for name, p in model.named_parameters()}

    def loss(weights: dict[str, torch.Tensor]) -> torch.Tensor:
        return cross_entropy(functional_call(model, weights, data.images), data.labels)

    gradient, step, trace = torch.func.grad(loss), 1e-5, 0.0
    for name, tensor in parameters.items():
        flat = tensor.view(-1)
        for i in range(flat.numel()):
            value, sides = flat[i].item(), []
            for side in (step, -step):
                flat[i] = value + side
                sides.append(gradient(parameters)[name].reshape(-1)[i].item())
            flat[i] = value
            trace += (sides[0] - sides[1]) / (2 * step)
    return trace


@pytest.mark.parametrize("family", TINY)
def test_it_estimates_the_dense_trace(family: str) -> None:
    model, data = problem(family)
    truth = dense_trace(model, data)
    estimate = measure(model, (data.images, data.labels), "hessian_trace", probes=600)
    assert estimate.stderr is not None
    assert 0 < estimate.stderr < 0.1 * abs(truth)
    assert abs(estimate.value - truth) < 4 * estimate.stderr


@pytest.mark.parametrize("family", TINY)
def test_images_in_chunks_give_the_same(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = problem(family)
    whole = measure(model, (data.images, data.labels), "hessian_trace", probes=4)
    monkeypatch.setattr(surface, "CHUNK", 5)
    chunks = measure(model, (data.images, data.labels), "hessian_trace", probes=4)
    assert chunks.value == pytest.approx(whole.value, rel=1e-11)
    assert chunks.stderr == pytest.approx(whole.stderr, rel=1e-11)


def test_the_standard_error_covers_the_truth() -> None:
    model, data = problem("mlp")
    truth, trials = dense_trace(model, data), 200
    errors = []
    for seed in range(trials):
        estimate = measure(model, (data.images, data.labels), "hessian_trace", seed=seed, probes=16)
        errors.append((estimate.value - truth) / estimate.stderr)
    covered = sum(abs(error) < 1.96 for error in errors) / trials
    assert 0.87 < covered < 0.99
    # Neighbouring seeds must share no probe: then their errors are uncorrelated.
    assert abs(float(torch.corrcoef(torch.tensor([errors[:-1], errors[1:]]))[0, 1])) < 4 / trials**0.5


@pytest.mark.parametrize("bias", [False, True], ids=["weights", "weights and bias"])
def test_softmax_regression_at_zero_has_a_closed_form(bias: bool) -> None:
    """H = (I / C - 1 / C^2) x mean of x x', so the trace is (1 - 1 / C) (mean ||x||^2, plus 1 with a bias)."""
    images = torch.randn(20, 1, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(20) % 4
    truth = (1 - 1 / 4) * (images.flatten(1).square().sum(1).mean().item() + bias)
    estimate = measure(Linear(9, 4, bias), (images, labels), "hessian_trace", probes=2000)
    assert estimate.value == pytest.approx(truth, abs=4 * estimate.stderr)
    assert estimate.stderr < 0.02 * truth


def test_a_parameter_without_influence_adds_nothing() -> None:
    """The other parameters' signs are drawn after its own, so this holds within the errors, not bit for bit."""
    model, data = problem("mlp")
    truth = dense_trace(model, data)
    estimate = measure(WithUnused(model), (data.images, data.labels), "hessian_trace", probes=400)
    assert estimate.value == pytest.approx(truth, abs=4 * estimate.stderr)


def test_more_probes_make_the_error_smaller() -> None:
    model, data = problem("mlp")
    few, many = (measure(model, (data.images, data.labels), "hessian_trace", probes=n) for n in (64, 1024))
    assert few.stderr / many.stderr == pytest.approx(4, rel=0.3)
