from __future__ import annotations

import copy
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from mmbench import expand
from mmbench.landscape.paths import barrier, move, place
from mmbench.landscape.surface import Surface
from mmbench.models.base import MODELS

from .conftest import path_losses, problem

each_family = pytest.mark.parametrize("family", MODELS.names())


def grid(points: int) -> list[float]:
    return [i / (points - 1) for i in range(points)]


def toy(loss: Callable[[torch.Tensor], torch.Tensor], start: float, end: float, points: int) -> float:
    """The barrier of a loss of one parameter, through the same functions that walk between networks."""
    model = nn.Module()
    model.point = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    point = model.point.data
    surface: Any = SimpleNamespace(model=model, point=point, loss=lambda: float(loss(point)))
    point.fill_(start)
    a = place(model)
    point.fill_(end)
    b = place(model)
    assert (a.parameters.item(), b.parameters.item()) == (start, end)
    return barrier(path_losses(surface, a, b, grid(points)))


@pytest.mark.parametrize(
    ("loss", "ends", "points", "height"),
    [
        (lambda w: w**2, (-1, 3), 11, 0.0),
        (lambda w: 5 * w - 2, (-1, 3), 11, 0.0),
        (lambda w: (w**2 - 1) ** 2, (-1, 1), 11, 1.0),
        (lambda w: (w**2 - 1) ** 2, (1, -1), 3, 1.0),
        (lambda w: (w**2 - 1) ** 2, (-1, 1), 4, (1 - 1 / 9) ** 2),  # no point at 1/2: the largest on the grid
        (lambda w: 27 / 4 * w**2 * (1 - w), (0, 1), 7, 1.0),  # highest at 2/3; 27/32 at 1/2
        (lambda w: 27 / 4 * w**2 * (1 - w), (1, 0), 7, 1.0),
        (lambda w: 10 * w + 4 * w * (1 - w), (0, 1), 9, 1.0),  # above the chord, not above the ends
        (lambda w: 10 * w - 4 * w * (1 - w), (0, 1), 9, 0.0),  # a valley below the chord
        (lambda w: 3 - w**2, (0, 2), 5, 1.0),
        (lambda w: torch.cos(2 * math.pi * w), (0.25, 1.25), 5, 1.0),
    ],
    ids=["parabola", "straight", "two wells", "two wells reversed", "two wells off the grid", "highest at two thirds",
         "highest at one third", "unequal ends", "valley", "concave, unequal ends", "sine"],
)  # fmt: skip
def test_the_barrier_has_its_closed_form(
    loss: Callable[[torch.Tensor], torch.Tensor], ends: tuple[float, float], points: int, height: float
) -> None:
    assert toy(loss, *ends, points) == pytest.approx(height, abs=1e-12)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf], ids=str)
@pytest.mark.parametrize("position", [0, 1, 3], ids=["at the start", "inside", "at the end"])
def test_a_loss_that_is_not_finite_is_an_infinite_barrier(bad: float, position: int) -> None:
    losses = [1.0, 0.5, 0.5, 1.0]
    losses[position] = bad
    assert barrier(losses) == math.inf


def test_a_valley_and_then_a_hill_is_the_hill() -> None:
    assert barrier([1.0, 0.0, 1.5, 1.0]) == 0.5
    assert barrier([1.0, 1.5, 0.0, 1.0]) == 0.5
    assert barrier([1.0, 9.0]) == 0.0  # the ends alone


@each_family
def test_a_path_to_itself_is_constant(family: str) -> None:
    model, data = problem(family)
    surface = Surface(model, data)
    here, expected = place(surface.model), surface.loss()
    assert path_losses(surface, here, here, grid(7)) == [expected] * 7


@each_family
def test_a_path_begins_and_ends_at_its_ends(family: str) -> None:
    model, data = problem(family)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for tensor in [*other.parameters(), *(b for b in other.buffers() if b.is_floating_point())]:
            tensor.mul_(1.3)
    first, second = Surface(model, data), Surface(other, data)
    a, b = place(first.model), place(second.model)
    ends = first.loss(), second.loss()
    assert ends[0] != ends[1]
    losses = path_losses(first, a, b, grid(5))
    assert (losses[0], losses[-1]) == ends
    assert path_losses(first, b, a, grid(5)) == pytest.approx(losses[::-1], rel=1e-12)


@each_family
def test_a_point_of_the_path_is_the_interpolated_network(family: str) -> None:
    """Parameters and running statistics alike; the count of batches is none of them."""
    model, data = problem(family)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for tensor in [*other.parameters(), *(b for b in other.buffers() if b.is_floating_point())]:
            tensor.mul_(1.3)
    start = copy.deepcopy(model.state_dict())
    surface = Surface(model, data)
    move(surface, place(surface.model), place(other), 0.25)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, start[name] * (0.75 + 0.25 * 1.3), rtol=1e-14, atol=0)
        else:
            assert torch.equal(tensor, start[name])


@pytest.mark.parametrize("batch_statistics", [False, True], ids=["keep", "recompute"])
def test_a_place_remembers_the_running_statistics(batch_statistics: bool) -> None:
    """Recomputing statistics overwrites the running ones in passing; going back to the place restores them."""
    model, data = problem("resnet")
    start = copy.deepcopy(model.state_dict())
    surface = Surface(model, data, batch_statistics=batch_statistics)
    here = place(surface.model)
    surface.loss()
    assert torch.equal(model.bn1.running_mean, start["bn1.running_mean"]) != batch_statistics
    surface.point.zero_()
    move(surface, here, here, 0.5)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, start[name]) or name.endswith("num_batches_tracked")


@pytest.mark.parametrize("batch_statistics", [False, True], ids=["keep", "recompute"])
@each_family
def test_expansions_that_compute_the_same_function_are_connected(family: str, batch_statistics: bool) -> None:
    """Net2Wider's outgoing weights may be split at will, so the whole line between two splits has one loss.

    The seed, which also decides which unit is copied where, is the same for both.
    """
    model, data = problem(family)
    ends = [expand(model, "net2wider", factor=2, split=split, seed=4) for split in ("projection", "unequal")]
    first, second = (Surface(end, data, batch_statistics=batch_statistics) for end in ends)
    a, b = place(first.model), place(second.model)
    assert float(torch.dist(a.parameters, b.parameters)) > 0.1
    losses = path_losses(first, a, b, grid(5))
    # With recomputed statistics as with kept ones, it is the loss of the small network.
    assert losses == pytest.approx([Surface(model, data, batch_statistics=batch_statistics).loss()] * 5, abs=1e-10)
    assert barrier(losses) < 1e-10
