from __future__ import annotations

import pytest
import torch

from mmbench.landscape import second_differences
from mmbench.landscape.gauss_newton import image_traces
from mmbench.landscape.hessian import Curvature, rademacher
from mmbench.landscape.second_differences import TRIED, Differences, trusted_step
from mmbench.landscape.surface import Surface

from .conftest import problem

SMOOTH = ["vit", "mixer", "convnext"]


def surface_of(family: str, count: int = 20, dtype: torch.dtype = torch.float64) -> Surface:
    model, data = problem(family, count)
    return Surface(model.to(dtype), type(data)(data.images.to(dtype), data.labels))


def step_of(surface: Surface, share: float = 0.01) -> float | None:
    known = float(image_traces(surface)[:TRIED].mean())
    return trusted_step(surface, torch.Generator().manual_seed(0), share, known)


@pytest.mark.parametrize("family", SMOOTH)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_a_difference_is_the_derivative(family: str, dtype: torch.dtype) -> None:
    """Along one direction, over images in one group and in several."""
    for count in (20, 150):
        surface = surface_of(family, count, dtype)
        v = rademacher(len(surface.point), torch.Generator().manual_seed(3), surface.point)
        exact = float(torch.dot(v, Curvature(surface, "rest")(v)))
        step = step_of(surface)
        assert step is not None
        start, differences = surface.point.clone(), Differences(surface)
        assert differences.along([v] * len(differences.groups), step) == pytest.approx(exact, rel=0.02)
        assert torch.equal(surface.point, start)
        whole = float(torch.dot(v, Curvature(surface)(v)))
        for mutant in (whole, exact / 2, -exact):
            assert mutant != pytest.approx(exact, rel=0.04)


@pytest.mark.parametrize("family", SMOOTH)
def test_the_error_falls_with_the_square_of_the_step(family: str) -> None:
    surface = surface_of(family)
    v = rademacher(len(surface.point), torch.Generator().manual_seed(4), surface.point)
    exact = float(torch.dot(v, Curvature(surface, "rest")(v)))
    errors = [Differences(surface).along([v], step) - exact for step in (2e-3, 1e-3)]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.5)


def test_the_mean_over_groups_with_directions_of_their_own_is_the_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(second_differences, "GROUP", 8)
    surface = surface_of("vit", 20)
    product = Curvature(surface, "rest")
    units = torch.eye(product.size, dtype=torch.float64)
    trace = sum(float(product(unit) @ unit) for unit in units)
    draws = Differences(surface).draws(torch.Generator().manual_seed(0), 1e-3)
    found = torch.tensor([next(draws) for _ in range(400)], dtype=torch.float64)
    assert abs(float(found.mean()) - trace) < 4 * float(found.std()) / 20
    assert float(found.std()) / 20 < 0.2 * abs(trace)


@pytest.mark.parametrize("family", SMOOTH)
def test_smooth_networks_are_trusted(family: str) -> None:
    assert step_of(surface_of(family, dtype=torch.float32)) is not None


def test_kinks_are_not_trusted() -> None:
    """A difference sees the curvature of the kinks, which no derivative does."""
    assert step_of(surface_of("resnet"), share=1e9) is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_too_coarse_for_the_step_are_not_trusted(dtype: torch.dtype) -> None:
    assert step_of(surface_of("vit", dtype=dtype)) is None


def test_a_tolerance_below_the_error_of_the_step_is_not_met() -> None:
    assert step_of(surface_of("vit"), share=1e-9) is None
