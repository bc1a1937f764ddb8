from __future__ import annotations

import numpy as np
import pytest
import torch

from mmbench.landscape.lanczos import Lanczos, density


def operator(values: torch.Tensor, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A symmetric matrix of the given eigenvalues, and a start vector."""
    generator = torch.Generator().manual_seed(seed)
    q = torch.linalg.qr(torch.randn(len(values), len(values), dtype=torch.float64, generator=generator)).Q
    return q * values @ q.T, torch.randn(len(values), dtype=torch.float64, generator=generator)


def run(values: torch.Tensor, steps: int, seed: int = 0) -> Lanczos:
    matrix, start = operator(values, seed)
    lanczos = Lanczos(lambda v: matrix @ v, start)
    for _ in range(steps):
        lanczos.step()
    return lanczos


def test_all_steps_give_all_eigenvalues_each_once() -> None:
    values = torch.cat([torch.tensor([-5.0, 40.0, 41.0]), torch.linspace(-1, 1, 60)]).double()
    lanczos = run(values, 80)
    ritz, weights, residuals = lanczos.ritz(80)
    assert lanczos.exhausted
    assert len(ritz) == 63
    assert ritz == pytest.approx(values.sort().values.numpy(), abs=1e-9)
    assert weights.sum() == pytest.approx(1)
    assert residuals.max() == 0


@pytest.mark.parametrize("values", [[-9.0, 1.0, 2.0], [3.0, 3.0, 3.0], [0.0, 0.0, 0.0]], ids=str)
def test_the_largest_is_found_with_its_sign(values: list[float]) -> None:
    ritz, _, residuals = run(torch.tensor(values * 5).double(), 10).ritz(10)
    assert ritz[-1] == pytest.approx(max(values), abs=1e-12)
    assert residuals[-1] < 1e-12


def test_within_the_residual_lies_an_eigenvalue() -> None:
    values = torch.randn(200, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    lanczos = run(values, 30)
    for steps in (1, 5, 30):
        ritz, _, residuals = lanczos.ritz(steps)
        assert len(ritz) == steps
        for value, residual in zip(ritz, residuals, strict=True):
            assert np.abs(values.numpy() - value).min() <= residual + 1e-12


def test_the_first_steps_do_not_depend_on_those_that_follow() -> None:
    values = torch.linspace(0, 1, 50, dtype=torch.float64)
    for few, many in zip(run(values, 4).ritz(4), run(values, 20).ritz(4), strict=True):
        assert np.array_equal(few, many)


def test_without_a_second_orthogonalisation_eigenvalues_would_come_twice() -> None:
    """In float32, where rounding has lost the outliers' directions long before the last step."""
    values = torch.cat([torch.tensor([1e3, 5e2, -2e2]), torch.rand(300)]).double()
    matrix, start = operator(values)
    lanczos = Lanczos(lambda v: matrix.float() @ v, start.float())
    for _ in range(100):
        lanczos.step()
    ritz, *_ = lanczos.ritz(100)
    assert (ritz > 100).sum() == 2
    assert (ritz < -100).sum() == 1
    basis = torch.cat(lanczos._basis)[:100]
    assert (basis @ basis.T - torch.eye(100)).abs().max() < 1e-5


def test_weights_are_a_quadrature() -> None:
    """q' f(A) q is exact for polynomials of degree 2 k - 1, so moments are."""
    values = torch.randn(80, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    matrix, start = operator(values)
    ritz, weights, _ = run(values, 6).ritz(6)
    q = start / start.norm()
    for power in range(12):
        truth = float(q @ torch.linalg.matrix_power(matrix, power) @ q)
        assert float(weights @ ritz**power) == pytest.approx(truth, rel=1e-9)
    wrong = np.ones(6) / 6  # the weights of published code that squared the whole matrix of eigenvectors
    assert abs(float(wrong @ ritz**2) - float(weights @ ritz**2)) > 0.05 * float(weights @ ritz**2)


def test_the_two_rules_err_in_opposite_directions() -> None:
    """Exactly so for polynomials of degree 2 k - 1; the mean of the rules is then exact."""
    values = torch.randn(80, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    matrix, start = operator(values)
    q = start / start.norm()
    lanczos = run(values, 9)
    for steps in (3, 6):
        (gauss, anti), highest = lanczos.quadratures(steps), 2 * steps - 1
        assert len(gauss[0]) == steps - 1
        assert len(anti[0]) == steps
        for power in range(highest + 1):
            truth = float(q @ torch.linalg.matrix_power(matrix, power) @ q)
            low, high = (float(weights @ nodes**power) for nodes, weights in (gauss, anti))
            assert (low + high) / 2 == pytest.approx(truth, rel=1e-9)
            assert (abs(high - truth) > 1e-3 * abs(truth)) == (power >= highest - 1), power
    exhausted = run(values, 100)
    for gauss, anti in (exhausted.quadratures(80), exhausted.quadratures(100)):
        assert gauss is anti
        assert gauss[0] == pytest.approx(values.sort().values.numpy(), abs=1e-8)


def test_the_density_is_that_of_the_eigenvalues() -> None:
    values = torch.cat([torch.randn(300), torch.full((100,), 6.0)]).double()
    grid = np.linspace(-6, 9, 400)
    found = np.mean([density(*run(values, 60, seed).ritz(60)[:2], grid, 0.4) for seed in range(12)], axis=0)
    truth = density(values.numpy(), np.full(400, 1 / 400), grid, 0.4)
    assert np.trapezoid(found, grid) == pytest.approx(1, abs=1e-3)
    assert np.abs(found - truth).max() < 0.1 * truth.max()
