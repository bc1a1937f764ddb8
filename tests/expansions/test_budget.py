"""Parameter budgets: what is reachable is reached, what is not is refused with the nearest counts."""

from functools import cache

import pytest
from models.networks import FAMILIES

from expansions.cells import OPERATORS
from mmbench.data.base import InputShape
from mmbench.errors import UndefinedError
from mmbench.expansions.base import expand
from mmbench.expansions.budget import LARGEST_FACTOR, solve
from mmbench.models.base import architecture_of
from mmbench.registry import EXPANSIONS, MODELS

DIGITS = InputShape(1, 8, 10)
SIZED = [name for name in OPERATORS if "budget" in EXPANSIONS[name].model_fields]
GROWTHS = {
    "width": lambda base: base.widened,
    "hidden": lambda base: lambda factor: base.widened(factor, "hidden"),
    "depth": lambda base: base.deepened,
}
SOLVABLE = [
    (f, axis) for f in FAMILIES for axis in GROWTHS if (f, axis) not in {("mlp", "depth"), ("resnet", "hidden")}
]


@cache
def all_counts(growth, base):
    """By a walk through the factors up to 9 in steps of 0.004, finer than any size of these networks can see."""
    return sorted({growth(base)(1 + i / 250).parameters(DIGITS) for i in range(2000)})


@pytest.mark.parametrize("tolerance", [0.0, 0.02, 0.05])
@pytest.mark.parametrize(("family", "axis"), SOLVABLE, ids=str)
def test_the_solver_finds_the_nearest_count_of_all(family, axis, tolerance):
    base = MODELS[family](**({"hidden": 61} if family == "vit" else {}))
    grow = GROWTHS[axis](base)
    smallest, *reachable = all_counts(GROWTHS[axis], base)
    for budget in (1.0001, 1.004, 1.01, 1.08, 1.35, 1.5, 1.99, 2.0, 2.6, 3.3, 4.0):
        target = budget * smallest
        nearest = min(reachable, key=lambda count: abs(count - target))
        try:
            factor = solve(grow, base, DIGITS, budget, tolerance)
        except UndefinedError as error:
            assert abs(nearest / target - 1) > tolerance
            below = max(count for count in [smallest, *reachable] if count < target)
            above = min(count for count in reachable if count >= target)
            assert f"the nearest counts are {below:,} (" in str(error)
            assert f" and {above:,} (" in str(error)
            assert f"expansion.budget = {budget:g}" in str(error)
        else:
            assert abs(nearest / target - 1) <= tolerance
            assert abs(grow(factor).parameters(DIGITS) - target) == abs(nearest - target)


@pytest.mark.parametrize("budget", [1.35, 2.0, 4.0])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", SIZED)
def test_a_budget_is_met_by_the_network_itself(name, family, budget):
    model = MODELS[family]().build(DIGITS)
    smallest = sum(p.numel() for p in model.parameters())
    operator = EXPANSIONS[name](budget=budget, tolerance=0.05)
    try:
        large = expand(model, operator)
    except UndefinedError as error:
        assert any(word in str(error) for word in ("nearest counts", "LayerNorm", "no residual blocks"))
        return
    count = sum(p.numel() for p in large.parameters())
    base, shape = architecture_of(model)
    target = operator.target(base, shape)
    assert target.architecture.parameters(shape) == count
    assert target.axis == operator.axis
    assert abs(count / (budget * smallest) - 1) <= operator.tolerance


def test_budgets_that_the_comparisons_need_are_reachable_on_digits():
    """Equal-parameter groups exist only where several operators reach the same budget."""

    def reached(budget: float) -> set:
        found = set()
        for name in SIZED:
            for family in FAMILIES:
                try:
                    EXPANSIONS[name](budget=budget, tolerance=0.05).target(MODELS[family](), DIGITS)
                except UndefinedError:
                    continue
                found.add((name, family))
        return found

    assert {(name, "mlp") for name in ("net2wider", "zero_pad", "random_pad", "scratch")} <= reached(2.0)
    assert {(name, "resnet") for name in ("net2wider", "zero_pad", "random_pad", "scratch")} <= reached(2.0)
    assert {(name, "vit") for name in ("net2wider", "random_pad", "scratch")} <= reached(4.0)
    assert ("identity_block", "vit") in reached(4.0)


def test_the_factor_of_a_budget_is_recorded_with_few_digits():
    base = MODELS["mlp"]()
    target = EXPANSIONS["net2wider"](budget=2.0, factor=5.0).target(base, DIGITS)
    assert target.factor < 2.5, "the factor is solved for, the given one ignored"
    assert target.factor == round(target.factor, 5)
    assert target.architecture == base.widened(target.factor)


def test_a_budget_beyond_all_factors_is_refused():
    base = MODELS["vit"]()
    with pytest.raises(UndefinedError, match=r"expansion.budget = 100 needs a factor above 64"):
        solve(lambda factor: base.widened(min(factor, 1.5)), base, DIGITS, 100.0, 0.05)
    largest = base.deepened(LARGEST_FACTOR)
    factor = solve(base.deepened, base, DIGITS, largest.parameters(DIGITS) / base.parameters(DIGITS), 0.001)
    assert base.deepened(factor) == largest
