from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from mmbench.landscape import hessian
from mmbench.landscape import surface as surface_module
from mmbench.landscape.hessian import rademacher_forms
from mmbench.landscape.surface import Surface
from mmbench.registry import MODELS

from .conftest import problem

each_family = pytest.mark.parametrize("family", MODELS.names())


def with_probes(monkeypatch: pytest.MonkeyPatch, surface: Surface, probes: Tensor) -> Tensor:
    """The forms for given vectors, one a row, in place of the random ones."""
    rows: Iterator[Tensor] = iter(probes)
    monkeypatch.setattr(hessian, "_signs", lambda like, seed: next(rows))
    return rademacher_forms(surface, len(probes), torch.Generator())


@each_family
def test_the_forms_are_those_of_the_dense_hessian(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """H v by central differences of the gradient: no double backward pass, no attention kernel chosen."""
    model, data = problem(family)
    surface = Surface(model, data)
    point = surface.point.clone()
    generator = torch.Generator().manual_seed(0)
    probes = torch.randn(10, len(point), dtype=torch.float64, generator=generator)
    forms = with_probes(monkeypatch, surface, probes)
    for probe, form in zip(probes, forms.tolist(), strict=True):
        sides = []
        for step in (1e-6, -1e-6):
            torch.add(point, probe, alpha=step, out=surface.point)
            sides.append(surface.loss_and_gradient()[1])
        surface.point.copy_(point)
        assert form == pytest.approx(float(probe @ (sides[0] - sides[1])) / 2e-6, rel=1e-6)


@each_family
def test_coordinate_vectors_give_the_exact_trace(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean over the random probes is then within its error of a trace that is exact, not estimated."""
    model, data = problem(family)
    surface = Surface(model, data)
    diagonal = with_probes(monkeypatch, surface, torch.eye(len(surface.point), dtype=torch.float64))
    monkeypatch.undo()
    forms = rademacher_forms(surface, 400, torch.Generator().manual_seed(1))
    error = float(forms.std()) / 20
    assert error < 0.2 * float(diagonal.abs().sum())
    assert float(forms.mean()) == pytest.approx(float(diagonal.sum()), abs=4 * error)


@each_family
def test_chunks_of_images_add_up(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = problem(family)
    whole = rademacher_forms(Surface(model, data), 3, torch.Generator().manual_seed(2))
    monkeypatch.setattr(surface_module, "CHUNK", 7)
    chunks = rademacher_forms(Surface(model, data), 3, torch.Generator().manual_seed(2))
    torch.testing.assert_close(chunks, whole, rtol=1e-11, atol=1e-13)


def test_probes_are_independent_signs() -> None:
    like = torch.zeros(4000, dtype=torch.float64)
    signs = torch.stack([hessian._signs(like, seed) for seed in range(20)])
    assert signs.unique().tolist() == [-1, 1]
    assert signs.dtype == torch.float64
    correlations = signs @ signs.T / 4000 - torch.eye(20, dtype=torch.float64)
    assert correlations.abs().max() < 5 / 4000**0.5
    assert torch.equal(hessian._signs(like, 3), signs[3])


def test_every_probe_of_every_seed_is_another() -> None:
    model, data = problem("mlp")
    surface = Surface(model, data)
    forms = torch.cat([rademacher_forms(surface, 8, torch.Generator().manual_seed(seed)) for seed in range(8)])
    assert len(forms.unique()) == 64


def test_no_graph_and_no_gradient_is_left_behind() -> None:
    model, data = problem("vit")
    surface = Surface(model, data)
    point = surface.point.clone()
    flash = torch.backends.cuda.flash_sdp_enabled()
    assert not rademacher_forms(surface, 2, torch.Generator()).requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(surface.point, point)
    assert torch.backends.cuda.flash_sdp_enabled() == flash
