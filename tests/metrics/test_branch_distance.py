"""The distance between branches of the training, less that of the base model's after the expansion."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from itertools import combinations

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from mmbench import expand, measure
from mmbench.errors import UndefinedError
from mmbench.landscape.branches import shortened
from mmbench.metrics.base import METRICS, Estimate, score
from mmbench.metrics.subject import Subject
from mmbench.models.base import MODELS
from mmbench.testing.networks import images, network
from mmbench.training.loop import train
from mmbench.training.recipes import SGD

RECIPE = SGD(steps=20, warmup_steps=4, batch_size=10, lr=0.1)


@cache
def grown(family: str = "mlp") -> tuple[nn.Module, nn.Module, Callable[[nn.Module, int], nn.Module]]:
    """A base, the network that it is expanded to, and the expansion."""
    base = network(family, torch.float64)

    def again(small: nn.Module, draw: int) -> nn.Module:
        return expand(small, "net2wider", factor=2.0, seed=draw)

    return base, again(base, 0), again


def measured(family: str = "mlp", **options: object) -> Estimate:
    base, large, again = grown(family)
    data = images(40, torch.float64)
    given = {
        "training": RECIPE,
        "fraction": 0.5,
        "unit": "none",
        "branches": 3,
        "base": base,
        "expand": again,
        **options,
    }
    return measure(large, (data.images, data.labels), "branch_distance", **given)


def branches(model: nn.Module, seed: int = 0, count: int = 3, steps: int = 10) -> list[nn.Module]:
    """By hand: copies trained one after the other, by the recipe shortened to half."""
    data = images(40, torch.float64)
    generator, found = Subject(model, data, seed=seed).generator("branch_distance"), []
    for _ in range(count):
        found.append(copy.deepcopy(model))
        train(found[-1], data, RECIPE.model_copy(update={"steps": steps, "warmup_steps": steps // 5}), generator)
    return found


def vector(model: nn.Module) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


def spread(models: list[nn.Module]) -> float:
    return sum(float((vector(a) - vector(b)).norm()) for a, b in combinations(models, 2)) / (
        len(models) * (len(models) - 1) / 2
    )


@pytest.mark.parametrize("family", MODELS.names())
def test_it_is_the_spread_of_the_branches_less_that_of_the_expanded_branches_of_the_base(family: str) -> None:
    base, large, again = grown(family)
    own, null = spread(branches(large)), spread([again(branch, 0) for branch in branches(base)])
    estimate = measured(family)
    assert estimate.details["distance"] == pytest.approx(own, rel=1e-9)
    assert estimate.details["null"] == pytest.approx(null, rel=1e-9)
    assert estimate.value == pytest.approx(own - null, rel=1e-9)
    plain = measured(family, minus_null=False)
    assert plain.value == pytest.approx(own, rel=1e-9)
    assert "null" not in plain.details


def test_an_expansion_that_changes_nothing_leaves_nothing() -> None:
    base, _, _ = grown()
    data = images(40, torch.float64)
    given = {"training": RECIPE, "base": base, "expand": lambda small, draw: copy.deepcopy(small)}
    estimate = measure(base, (data.images, data.labels), "branch_distance", **given)
    assert (estimate.value, estimate.stderr) == (0.0, 0.0)
    assert estimate.details["distance"] > 0


def test_branches_differ_in_the_order_of_the_images_alone() -> None:
    _, large, _ = grown()
    data = images(40, torch.float64)
    same = data.images[:1].expand(40, -1, -1, -1), data.labels[:1].expand(40)
    estimate = measure(large, same, "branch_distance", training=RECIPE, fraction=1, minus_null=False, branches=3)
    assert (estimate.value, estimate.stderr) == (0.0, 0.0)
    assert measured(minus_null=False, fraction=1, training=RECIPE.model_copy(update={"batch_size": 40})).value < 1e-10


def test_the_length_may_be_in_epochs() -> None:
    epochs = RECIPE.model_copy(update={"epochs": 5, "steps": 300})  # of four steps each
    assert measured(training=epochs).value == measured().value
    _, large, _ = grown()
    quarter = measured(fraction=0.25, minus_null=False)
    assert shortened(RECIPE, 0.25).steps == 5
    assert quarter.value == pytest.approx(spread(branches(large, steps=5)), rel=1e-9)


def test_the_base_models_branches_are_measured_once_for_all_expansions() -> None:
    """The reference is tensors by name, which a run stores; the score read off them is the same."""
    base, large, again = grown("resnet")
    data = images(40, torch.float64)
    metric = METRICS.create({"name": "branch_distance", "training": RECIPE, "fraction": 0.5, "unit": "none",
                             "branches": 3})  # fmt: skip
    stored = metric.reference(Subject(base, data))
    assert {name.partition(".")[0] for name in stored} == {"0", "1", "2"}
    assert all(
        tensor.is_contiguous() and tensor.untyped_storage().nbytes() == tensor.nbytes for tensor in stored.values()
    )
    subject = Subject(large, data, base=base, expand=again)
    subject.give_reference(metric, stored)
    assert score(metric, subject).value == measured("resnet").value
    emptied = Subject(large, data, base=base, expand=again)
    emptied.give_reference(metric, {name: torch.zeros_like(tensor) for name, tensor in stored.items()})
    assert score(metric, emptied).details["null"] == 0.0
    other = METRICS.create({**metric.describe(), "unit": "filter"})
    assert other.reference_options() == metric.reference_options()


def test_a_unit_of_each_filter_does_not_see_its_scale() -> None:
    """Filter-wise, the square is the mean over the rows of ||d||^2 over their mean ||w||^2 in the three branches."""
    _, large, _ = grown()
    ends, total = branches(large), 0.0
    for a, b in combinations(range(3), 2):
        shares = []
        for name, weight in ends[0].named_parameters():
            rows = torch.stack([end.get_parameter(name).detach() for end in ends]) if weight.dim() > 1 else []
            shares += [
                float((rows[a, f] - rows[b, f]).square().sum() / rows[:, f].square().sum(1).mean())
                for f in range(len(weight) if len(rows) else 0)
            ]
        total += (sum(shares) / len(shares)) ** 0.5 / 3
    assert measured(unit="filter", minus_null=False).value == pytest.approx(total, rel=1e-9)


def test_the_barrier_beside_the_score_is_the_highest_point_of_the_lines() -> None:
    _, large, _ = grown()
    wide = RECIPE.model_copy(update={"lr": 1.5})
    data, ends = images(40, torch.float64), []
    generator = Subject(large, data).generator("branch_distance")
    for _ in range(3):
        ends.append(copy.deepcopy(large))
        train(ends[-1], data, wide, generator)

    def loss(model: nn.Module) -> float:
        with torch.no_grad():
            return float(cross_entropy(model(data.images), data.labels))

    heights = []
    for a, b in combinations(ends, 2):
        ends, rises = (loss(a), loss(b)), [0.0]
        for place in range(1, 200):
            middle, alpha = copy.deepcopy(a), place / 200
            with torch.no_grad():
                for weight, other in zip(middle.parameters(), b.parameters(), strict=True):
                    weight.lerp_(other, alpha)
            rises.append(loss(middle) - (1 - alpha) * ends[0] - alpha * ends[1])
        heights.append(max(rises))
    assert sum(heights) > 1e-3, "no barrier, nothing tested"
    found = measured(training=wide, fraction=1, images=40, minus_null=False)
    assert found.details["barrier"] == pytest.approx(sum(heights) / 3, rel=3e-3)


def test_the_null_needs_the_base_and_the_expansion() -> None:
    base, large, _ = grown()
    data = images(40, torch.float64)
    for given, missing in (({}, "give base="), ({"base": base}, "give expand=")):
        with pytest.raises(UndefinedError, match=missing):
            measure(large, (data.images, data.labels), "branch_distance", training=RECIPE, **given)


def test_two_branches_have_no_standard_error() -> None:
    assert measured(branches=2).stderr is None
    assert measured().stderr > 0
