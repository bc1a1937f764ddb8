from __future__ import annotations

import pytest
import torch

from mmbench.landscape.traces import FIRST, METHODS, Goal, Trace

SPECTRA = {
    "falling": torch.cat(
        [100 * 0.7 ** torch.arange(150.0), -torch.rand(50, generator=torch.Generator().manual_seed(0))]
    ),
    "flat": torch.cat([torch.ones(150), -0.5 * torch.ones(50)]),
}


def matrix(spectrum: str) -> torch.Tensor:
    values = SPECTRA[spectrum].double()
    generator = torch.Generator().manual_seed(1)
    q = torch.linalg.qr(torch.randn(len(values), len(values), dtype=torch.float64, generator=generator)).Q
    return q * values @ q.T


def estimates(method: str, a: torch.Tensor, goal: Goal, trials: int) -> list[Trace]:
    like = torch.zeros(len(a), dtype=torch.float64)
    return [METHODS[method](lambda v: a @ v, like, goal, torch.Generator().manual_seed(s)) for s in range(trials)]


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("method", METHODS)
def test_the_error_covers_and_the_estimate_is_unbiased(method: str, spectrum: str) -> None:
    """Without a bias at a fixed number of products; with a small one where it stops by looking at the error."""
    a, trials = matrix(spectrum), 100
    for tolerance in (1e-9, 0.05):
        found = estimates(method, a, Goal(tolerance, 60), trials)
        errors = torch.tensor([t.value for t in found]).double() - a.trace()
        stated = sum(t.stderr for t in found) / trials
        bias = 0.0 if tolerance < 1e-6 else stated / 3
        assert abs(float(errors.mean())) < bias + 4 * float(errors.std()) / trials**0.5
        covered = sum(abs(float(e)) <= 1.96 * t.stderr + 1e-9 for e, t in zip(errors, found, strict=True)) / trials
        assert covered > (0.85 if method == "xtrace" else 0.9)
        assert all(t.products <= 60 for t in found)


@pytest.mark.parametrize("method", METHODS)
def test_it_stops_where_the_error_is_small_enough(method: str) -> None:
    """Relative to the whole, of which a part is known: the larger that part, the sooner."""
    a = matrix("flat")
    few, many = (estimates(method, a, Goal(0.02, 3000, known), 10) for known in (2000.0, 0.0))
    assert all(t.stderr <= 0.02 * abs(2000 + t.value) for t in few)
    assert all(t.stderr <= 0.02 * abs(t.value) or t.products >= 2997 for t in many)
    if method == "hutchinson":
        assert all(t.products == FIRST for t in few)
        assert min(t.products for t in many) > 2 * FIRST


def test_a_falling_spectrum_is_caught_by_few_products() -> None:
    a = matrix("falling")
    rms = {
        method: torch.tensor([t.value - a.trace() for t in estimates(method, a, Goal(1e-9, 60), 40)]).square().mean()
        for method in METHODS
    }
    assert rms["hutchpp"] < 0.05 * rms["hutchinson"]
    assert rms["xtrace"] < 0.05 * rms["hutchinson"]


@pytest.mark.parametrize("method", METHODS)
def test_small_and_empty_operators(method: str) -> None:
    three = torch.diag(torch.tensor([1.0, 2.0, 3.0])).double()
    assert estimates(method, three, Goal(0.01, 30), 1)[0].value == pytest.approx(6)
    nothing = torch.zeros(20, 20, dtype=torch.float64)
    assert estimates(method, nothing, Goal(0.01, 30), 1)[0].value == 0
