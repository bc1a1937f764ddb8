from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from mmbench.landscape.branches import Branch, sgd_branches, shortened
from mmbench.models.base import MODELS
from mmbench.training.recipes import SGD, TRAININGS

from .conftest import problem

RECIPE = SGD(steps=8, warmup_steps=2, batch_size=5, lr=0.1)


def state(model: nn.Module | Branch) -> list[torch.Tensor]:
    model = model.model if isinstance(model, Branch) else model
    return [tensor.clone() for tensor in model.state_dict().values()]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("family", MODELS.names())
def test_branches_leave_the_start_and_part_from_each_other(family: str) -> None:
    model, data = problem(family)
    before = state(model)
    branches = sgd_branches(model, data, RECIPE, 3, torch.Generator().manual_seed(0))
    assert same(state(model), before)
    assert not model.training
    states = [before, *map(state, branches)]
    assert not any(same(a, b) for i, a in enumerate(states) for b in states[:i])
    again = sgd_branches(model, data, RECIPE, 3, torch.Generator().manual_seed(0))
    assert all(same(state(a), state(b)) for a, b in zip(branches, again, strict=True))


def test_each_branch_begins_at_the_start_with_its_own_order() -> None:
    model, data = problem("mlp")
    start, batches = [p.clone() for p in model.parameters()], []

    def record(module: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        rows = [int((data.images == image).flatten(1).all(1).nonzero()) for image in inputs[0]]
        batches.append((rows, same([p.detach() for p in module.parameters()], start)))

    watched = copy.deepcopy(model)
    watched.register_forward_pre_hook(record)
    sgd_branches(watched, data, RECIPE, 3, torch.Generator().manual_seed(0))
    assert len(batches) == 3 * 8
    assert [at_start for _, at_start in batches] == ([True] + [False] * 7) * 3
    orders = [[row for rows, _ in batches[first : first + 4] for row in rows] for first in range(0, 24, 4)]
    assert all(sorted(order) == list(range(20)) for order in orders), "an epoch is a permutation"
    assert len({tuple(order) for order in orders}) == 6


@pytest.mark.parametrize("name", TRAININGS.names())
@pytest.mark.parametrize(
    ("steps", "warmup", "fraction", "expected"),
    [
        (300, 15, 0.1, (30, 2)),
        (300, 15, 1.0, (300, 15)),
        (10, 9, 0.1, (1, 0)),
        (10, 9, 0.5, (5, 4)),
        (3, 2, 0.01, (1, 0)),
        (1, 0, 0.5, (1, 0)),
        (40, 0, 0.25, (10, 0)),
    ],
)
def test_a_shortened_recipe_is_a_recipe(
    name: str, steps: int, warmup: int, fraction: float, expected: tuple[int, int]
) -> None:
    recipe = TRAININGS[name](steps=steps, epochs=None, warmup_steps=warmup, schedule="cosine")
    short = shortened(recipe, fraction)
    assert (short.steps, short.warmup_steps) == expected
    assert type(recipe).model_validate(short.model_dump()) == short  # its own checks hold
    assert short.model_copy(update={"steps": steps, "warmup_steps": warmup}) == recipe  # nothing else has changed
    assert short.learning_rate(short.steps - 1) < recipe.lr or short.steps - short.warmup_steps == 1
