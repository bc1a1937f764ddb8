from __future__ import annotations

import pytest
import torch

from mmbench.data.base import Split
from mmbench.landscape import surface as surfaces
from mmbench.landscape.gauss_newton import softmax_factor
from mmbench.landscape.hessian import KEPT, Curvature, rademacher
from mmbench.landscape.surface import Surface
from mmbench.models.base import MODELS

from .conftest import problem
from .test_per_image import jacobian

each_family = pytest.mark.parametrize("family", MODELS.names())


def slopes(surface: Surface, direction: torch.Tensor) -> torch.Tensor:
    """H v by central differences of the gradient: no double backward pass, no attention kernel chosen."""
    point, sides = surface.point.clone(), []
    for step in (1e-6, -1e-6):
        torch.add(point, direction, alpha=step, out=surface.point)
        sides.append(surface.loss_and_gradient()[1])
    surface.point.copy_(point)
    return (sides[0] - sides[1]) / 2e-6


@each_family
def test_products_are_those_of_the_dense_matrices(family: str) -> None:
    surface = Surface(*problem(family))
    factor = torch.stack(list(softmax_factor(surface.logits())))
    rows = torch.einsum("knc,ncp->knp", factor, jacobian(surface)).flatten(0, 1) / len(surface.images) ** 0.5
    hessian, rest = Curvature(surface), Curvature(surface, "rest")
    assert hessian.size == len(surface.point)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        v = torch.randn(hessian.size, dtype=torch.float64, generator=generator)
        expected = slopes(surface, v)
        scale = float(expected.abs().max())
        assert torch.allclose(hessian(v), expected, rtol=1e-5, atol=1e-6 * scale)
        assert torch.allclose(rest(v) + rows.T @ (rows @ v), expected, rtol=1e-5, atol=1e-6 * scale)
        assert float((rest(v) - expected).abs().max()) > 0.01 * scale, "the two are not one"


@pytest.mark.parametrize("family", ["mlp", "resnet", "vit"])
def test_the_rest_has_no_diagonal_in_relu_networks_and_one_in_others(family: str) -> None:
    surface = Surface(*problem(family))
    rest = Curvature(surface, "rest")
    diagonal = torch.stack([rest(unit) @ unit for unit in torch.eye(rest.size, dtype=torch.float64)[::5]])
    if family in ("mlp", "resnet"):
        assert diagonal.abs().max() < 1e-14
    else:
        assert diagonal.abs().max() > 1e-4


@each_family
def test_chunks_of_images_add_up(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both where their graphs are kept and where they are made again for every product."""
    model, data = problem(family)
    v = torch.randn(len(Surface(model, data).point), dtype=torch.float64)
    whole = Curvature(Surface(model, data))(v)
    for chunk in (7, len(data) // (KEPT + 2)):
        monkeypatch.setattr(surfaces, "CHUNK", chunk)
        product = Curvature(Surface(model, data))
        for _ in range(2):
            torch.testing.assert_close(product(v), whole, rtol=1e-11, atol=1e-13)


def test_rows_that_are_zero_are_zero() -> None:
    """A linear network's gradient at the bias does not depend on itself; a parameter may not be used at all."""

    class Sum(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unused = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
            self.bias = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.bias.expand(len(images), -1)

    surface = Surface(Sum(), Split(torch.zeros(4, 1), torch.arange(4) % 3))
    v = torch.arange(5, dtype=torch.float64)
    p = torch.full((3,), 1 / 3, dtype=torch.float64)
    expected = torch.cat([torch.zeros(2, dtype=torch.float64), p * v[2:] - p * (p @ v[2:])])
    assert torch.allclose(Curvature(surface)(v), expected, atol=1e-15)
    assert not Curvature(surface, "rest")(v).any()


def test_probes_are_independent_signs() -> None:
    generator = torch.Generator().manual_seed(0)
    signs = torch.stack([rademacher(4000, generator, torch.zeros(1, dtype=torch.float64)) for _ in range(20)])
    assert signs.unique().tolist() == [-1, 1]
    assert signs.dtype == torch.float64
    correlations = signs @ signs.T / 4000 - torch.eye(20, dtype=torch.float64)
    assert correlations.abs().max() < 5 / 4000**0.5


def test_no_graph_and_no_gradient_is_left_behind() -> None:
    surface = Surface(*problem("vit"))
    point, flash = surface.point.clone(), torch.backends.cuda.flash_sdp_enabled()
    assert not Curvature(surface)(point).requires_grad
    assert all(parameter.grad is None for parameter in surface.model.parameters())
    assert torch.equal(surface.point, point)
    assert torch.backends.cuda.flash_sdp_enabled() == flash
