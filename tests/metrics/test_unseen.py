"""Networks, data and circumstances that metrics were not written for: the right value, or a clear error."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.functional import cross_entropy

from mmbench import Estimate, measure, measure_all
from mmbench.errors import ConfigError, DataError, MmbenchError, ScoreError, UndefinedError
from mmbench.landscape.lanczos import Lanczos
from mmbench.metrics.base import METRICS, Metric
from mmbench.testing.networks import images, network

from .conftest import Linear


def score(model: nn.Module, metric: str, count: int = 12, **options: object) -> Estimate:
    data = images(count, next(model.parameters()).dtype)
    return measure(model, (data.images, data.labels), metric, **options)


def gauss_newton_trace(model: nn.Module, count: int = 12) -> float:
    """By one backward pass per image and class."""
    data, total = images(count, torch.float64), 0.0
    for image in data.images:
        z = model(image[None].repeat(2, 1, 1, 1))[0]
        p = z.softmax(0).detach()
        rows = [
            torch.cat([
                g.flatten()
                for g in torch.autograd.grad(y, list(model.parameters()), retain_graph=True, materialize_grads=True)
            ])
            for y in z
        ]  # fmt: skip
        j = torch.stack(rows)
        total += float(torch.einsum("cp,cd,dp->", j, torch.diag(p) - torch.outer(p, p), j))
    return total / count


class SequenceFirst(nn.Module):
    """A transformer whose tokens come before the images, and whose last layer is read at the first token alone."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 6, dropout=0.0)
        self.head = nn.Linear(8, 3)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(pixels.flatten(1, 2).transpose(0, 1))[0])


class UsedElsewhere(nn.Module):
    """A weight whose second use is silent on the first image."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(64, 5), nn.Linear(64, 5), nn.Linear(5, 3)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        x = pixels.flatten(1)
        again = functional.linear(x, self.b.weight) * (x[:, :1] > images(12, torch.float64).images[0, 0, 0, 0] + 1e-9)
        return self.head(torch.tanh(self.a(x) + self.b(x)) + again)


class Parametrised(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.utils.parametrizations.weight_norm(nn.Linear(64, 6))
        self.head = nn.Linear(6, 3)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.body(input=pixels.flatten(1))))


@pytest.mark.parametrize("kind", [SequenceFirst, UsedElsewhere, Parametrised])
def test_exact_traces_of_odd_networks(kind: type[nn.Module]) -> None:
    torch.manual_seed(2)
    model = kind().double().eval()
    assert score(model, "ggn_trace").value == pytest.approx(gauss_newton_trace(model), rel=1e-9)


def test_a_wrong_second_derivative_is_noticed() -> None:
    """That of torch's fused weight_norm: its Hessian by autograd is not symmetric."""
    torch.manual_seed(2)
    with pytest.raises(UndefinedError, match="not symmetric"):
        score(Parametrised().double(), "top_eigenvalue")


class Router(nn.Module):
    """Linear in pieces for the first image, curved as soon as others come along."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(64, 6), nn.Linear(6, 3)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        z = self.body(pixels.flatten(1))
        return self.head(torch.where(z[:, :1] > 0, z * z, z.relu()) if len(z) > 1 else z.relu())


def test_what_is_exact_is_decided_on_more_than_one_image() -> None:
    torch.manual_seed(0)
    assert score(Router().double(), "hessian_trace").stderr > 0


class Remembers(nn.Module):
    """As some of timm's attentions do: a table that is read once in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Parameter(torch.randn(64)), nn.Linear(64, 3)
        self.attention_bias_cache: dict[str, torch.Tensor] = {}

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        if not self.training:
            self.attention_bias_cache.setdefault("cpu", self.table * 1)
        table = self.table if self.training else self.attention_bias_cache["cpu"]
        return self.head(torch.tanh(pixels.flatten(1) + table))


def test_nothing_is_remembered_of_old_weights() -> None:
    torch.manual_seed(0)
    model, data = Remembers().double(), images(12, torch.float64)
    with torch.no_grad():
        model.eval()(data.images)
    gradients = torch.autograd.grad(
        cross_entropy(model.train()(data.images), data.labels), list(model.parameters()), materialize_grads=True
    )
    assert score(model.eval(), "grad_norm").value == pytest.approx(
        float(sum(g.square().sum() for g in gradients)) ** 0.5
    )


@pytest.mark.parametrize("margin", [6.0, 17.0])
def test_well_fitted_images_lose_nothing_in_float32(margin: float) -> None:
    """Softmax regression is convex, whatever rounding makes of p - 1."""
    model, data = Linear(64, 3), images(12, torch.float64)
    with torch.no_grad():
        model.head.weight.copy_(
            torch.linalg.lstsq(
                data.images.flatten(1), margin * torch.eye(3, dtype=torch.float64)[data.labels]
            ).solution.T
        )
    for metric in ("top_eigenvalue", "grad_norm", "empirical_fisher_trace", "ggn_trace"):
        assert score(model.float(), metric).value == pytest.approx(score(model.double(), metric).value, rel=1e-3), (
            metric
        )
    assert score(model.float(), "negative_mass").value < 1e-3


@pytest.mark.parametrize("size", [1e-25, 1e25])
def test_lanczos_in_float32_has_room_for_small_and_large_numbers(size: float) -> None:
    values = torch.linspace(-1, 2, 30)
    run = Lanczos(lambda v: size * values * v, torch.ones(30))
    for _ in range(30):
        run.step()
    assert run.ritz(30)[0][-1] == pytest.approx(2 * size, rel=1e-4)
    with pytest.raises(ScoreError, match="not a finite number"):
        Lanczos(lambda v: v * torch.inf, torch.ones(3)).step()


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 3)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.head(pixels.flatten(1)), pixels


def test_data_and_networks_that_do_not_fit_are_refused() -> None:
    model, good = network("mlp"), images(12)
    bad = good.images.clone()
    bad[9, 0, 3, 3] = torch.nan
    cases = [
        (model, (bad, good.labels), "image 9 the first"),
        (model, (good.images, good.labels + 1), "label 3 is out of range"),
        (model, (good.images, good.labels - 100), "is out of range"),
        (model, (torch.randn(12, 1, 9, 9), good.labels), r"cannot take images of shape \(1, 9, 9\)"),
        (model, good.images, "as many labels as images|pair of tensors"),
        (model, (None, good.labels), "pair of tensors"),
        (Pair(), (good.images, good.labels), "it returns tuple"),
        (
            nn.Sequential(nn.Flatten(), nn.Linear(64, 1)),
            (good.images, torch.zeros(12, dtype=torch.long)),
            "two classes",
        ),
        (None, (good.images, good.labels), "needs a network"),
    ]
    for network_, data, words in cases:
        with pytest.raises(DataError, match=words):
            measure(network_, data, "hessian_trace")
    with pytest.raises(ConfigError, match=r"metric = 3 is not allowed: must be a name .* or a Metric"):
        measure(model, (good.images, good.labels), 3)
    with pytest.raises(UndefinedError, match="cannot be copied"):
        old = nn.Sequential(nn.Flatten(), torch.nn.utils.spectral_norm(nn.Linear(64, 3)))
        old(good.images)
        measure(old, (good.images, good.labels), "grad_norm")


def test_arrays_and_odd_circumstances_change_nothing() -> None:
    model, data = network("resnet"), images(12)
    expected = measure(model, (data.images, data.labels), "hessian_trace").value
    assert measure(model, (data.images.numpy(), data.labels.numpy()), "hessian_trace").value == expected
    assert measure(model, (data.images.requires_grad_(), data.labels), "hessian_trace").value == expected
    with torch.inference_mode():
        assert measure(model, (data.images * 1, data.labels), "hessian_trace").value == expected
    with torch.autocast("cpu"):
        assert measure(model, (data.images, data.labels), "hessian_trace").value == expected


def test_one_metric_that_fails_does_not_cost_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Metric, subject: object) -> Estimate:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(METRICS["l2_norm"], "measure", broken)
    data = images(12)
    found = measure_all(
        network("mlp"), (data.images, data.labels), ["parameters", "l2_norm", "validation_loss", "flops"]
    )
    assert isinstance(found["parameters"], Estimate)
    assert isinstance(found["flops"], Estimate)
    assert isinstance(found["validation_loss"], UndefinedError)
    assert isinstance(found["l2_norm"], MmbenchError)
    assert "l2_norm failed: ZeroDivisionError: a bug" in str(found["l2_norm"])
