"""Parameter budgets and matches: what is reachable is reached, what is not is refused with the nearest counts."""

import contextlib
import itertools
from functools import cache

import pytest

from mmbench.errors import ConfigError, UndefinedError
from mmbench.expansions.base import EXPANSIONS
from mmbench.expansions.budget import LARGEST_FACTOR, solve
from mmbench.expansions.copying import Copying
from mmbench.expansions.sized import grown_coupled_groups
from mmbench.models.base import MODELS
from mmbench.testing.cells import DIGITS, FAMILIES
from tests.expansions.cells import OPERATORS

SIZED = [name for name in OPERATORS if "budget" in EXPANSIONS[name].model_fields]
AXES = [(family, axis, False) for family in FAMILIES for axis in MODELS[family].axes]
WHOLE_AXES = [(family, axis, True) for family, axis, _ in AXES if axis not in ("depth", "kernel")]
BASES = {family: MODELS[family](**({"hidden": 61} if family == "vit" else {})) for family in FAMILIES}
BUDGETS = (1.0001, 1.004, 1.01, 1.08, 1.35, 1.5, 1.99, 2.0, 2.6, 3.3, 4.0)


@cache
def all_counts(family, axis, whole):
    """By a walk through the factors in steps of 0.004 up to 9, finer than any size of these networks can see.

    Where what grows is a small part of the network, the walk goes on to the largest factor, or the largest size.
    """
    factors = range(1, 10) if whole else [1 + i / 250 for i in range(2000)]
    if axis == "first" or (family, axis) in {("mlp", "depth"), ("cnn", "depth"), ("cnn", "kernel")}:
        factors = [*factors, *(range(10, 65) if whole else (i / 8 for i in range(72, 513)))]
    grown = {}
    for factor in factors:
        with contextlib.suppress(UndefinedError):
            grown[BASES[family].grown(axis, factor)] = None
    return sorted({architecture.parameters(DIGITS) for architecture in grown})


@pytest.mark.parametrize("tolerance", [0.0, 0.05])
@pytest.mark.parametrize(("family", "axis", "whole"), [*AXES, *WHOLE_AXES], ids=str)
def test_the_solver_finds_the_nearest_count_of_all(family, axis, whole, tolerance):
    base = BASES[family]
    smallest, *reachable = all_counts(family, axis, whole)
    assert smallest == base.parameters(DIGITS)
    by_stage = bool(list(base.increments(axis))) and not whole  # single stages can grow: more counts than these
    for budget in BUDGETS:
        target = round(budget * smallest)
        nearest = min(reachable, key=lambda count: abs(count - target))
        try:
            found = solve(base, DIGITS, axis, target, f"budget = {budget}", tolerance, whole=whole)
        except UndefinedError as error:
            assert abs(nearest / target - 1) > tolerance
            if "needs a factor above 64" in str(error):
                assert reachable[-1] < target
                continue
            assert f"within {tolerance:.1%} of budget = {budget} ({target:,} parameters)" in str(error)
            hinted, near = "expansion.tolerance may be up to 0.05" in str(error), abs(nearest / target - 1) <= 0.05
            assert hinted == near or (by_stage and hinted), "only where it would help"
            if reachable[-1] < target:
                assert "(no network of the family 'cnn' has kernel_size = 33: " in str(error)
            elif not by_stage and target > smallest:
                below = max(count for count in [smallest, *reachable] if count < target)
                above = min(count for count in reachable if count >= target)
                assert f"the nearest counts are {below:,} (" in str(error)
                assert f" and {above:,} ({above / smallest:.2f}x)" in str(error)
        else:
            count = found.parameters(DIGITS)
            assert found != base
            assert abs(count / target - 1) <= tolerance
            assert abs(count - target) <= abs(nearest - target)
            assert by_stage or abs(count - target) == abs(nearest - target)
            closer = [a for a in found.increments(axis) if abs(a.parameters(DIGITS) - target) < abs(count - target)]
            assert whole or not closer, "one unit more in one stage comes closer"


@pytest.mark.parametrize("family", ["resnet", "convnext"])
def test_depths_are_found_stage_by_stage(family):
    """Whatever mixture of depths a count comes from, some mixture comes within half a percent of it."""
    base = MODELS[family]()
    for added in itertools.product((0, 1, 2), repeat=len(base.layers)):
        wanted = base.of({**base.sizes(), "layers": tuple(1 + extra for extra in added)})
        if wanted != base:
            target = wanted.parameters(DIGITS)
            found = solve(base, DIGITS, "depth", target, "", 0.005)
            assert abs(found.parameters(DIGITS) / target - 1) <= 0.005
            assert sum(added) > 1 or found == wanted, "one block in one stage is found exactly"


def options_for(name, family):
    """What makes an operator defined on more families: another axis or depth operator than by default."""
    if name == "width_then_depth" and family in ("mlp", "cnn"):
        return {"depth": "net2deeper"}
    return {"axis": "hidden"} if name == "zero_pad" and family in ("vit", "mixer", "convnext") else {}


def defined_sizes(name, family, base=None, shape=DIGITS, **options):
    """The target, or the reason why there is none."""
    operator = EXPANSIONS[name](**options_for(name, family), **options)
    try:
        return operator.target(base or MODELS[family](), shape).architecture
    except UndefinedError as error:
        reasons = (
            "nearest counts are",
            "is not defined for the family",
            "no two consecutive blocks of equal shape",
            "the stage of",
            "is not an integer factor",
            "is not defined here",
            "needs a factor above",
        )
        assert any(reason in str(error) for reason in reasons), error
        return str(error)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", SIZED)
def test_a_match_has_as_many_parameters_as_the_matched_operator(name, family):
    base, place = MODELS[family](), SIZED.index(name)
    for matched, tolerance in ((name, 0.05), (SIZED[place - 1], 0.01), (SIZED[place - 6], 0.05)):
        found = defined_sizes(name, family, match=matched, tolerance=tolerance)
        try:
            goal = EXPANSIONS[matched]().target(base, DIGITS).architecture.parameters(DIGITS)
        except UndefinedError as error:
            assert isinstance(found, str)
            assert str(error) in found or "is not defined for the family" in found
            continue
        if not isinstance(found, str):
            assert abs(found.parameters(DIGITS) / goal - 1) <= tolerance
        if matched == name and not options_for(name, family):
            assert found.parameters(DIGITS) == goal, "an operator matches itself"


MATCHED = {  # what all that is defined reaches within 1% of width x2 on 8x8 images, by default axis
    "mlp": {"gradmax", "hypercloning", "ligo", "net2wider", "random_pad", "zero_pad"},
    "resnet": {"hypercloning", "identity_block", "ligo", "net2wider", "random_pad", "zero_pad"},
    "vit": {"gradmax", "hypercloning", "lemon", "net2wider", "random_pad", "zero_pad", "bert2bert_aki", "ligo"},
    "mixer": {"gradmax", "hypercloning", "net2wider", "random_pad", "zero_pad", "bert2bert_aki", "ligo"},
    "convnext": {"gradmax", "hypercloning", "identity_block", "net2wider", "random_pad", "zero_pad", "ligo"},
}


@pytest.mark.parametrize("family", MATCHED)
def test_the_equal_parameter_group_of_width_times_two_is_reached(family):
    found = {name for name in SIZED if not isinstance(defined_sizes(name, family, match="scratch"), str)}
    assert found >= MATCHED[family] | {"scratch", "scratch_matched"}


def test_a_match_takes_the_other_operators_factor():
    base = MODELS["vit"]()
    target = EXPANSIONS["gradmax"](match="net2wider", factor=3.0).target(base, DIGITS)
    wide = EXPANSIONS["net2wider"](factor=3.0).target(base, DIGITS).architecture
    assert target.architecture.parameters(DIGITS) == pytest.approx(wide.parameters(DIGITS), rel=0.01)
    assert target.factor == round(target.architecture.hidden / base.hidden, 4) > 8
    with pytest.raises(
        UndefinedError, match=r"expansion.match = lemon is not defined here: lemon is not defined for the fam"
    ):
        EXPANSIONS["net2wider"](match="lemon").target(MODELS["mlp"](), DIGITS)


@pytest.mark.parametrize("name", SIZED)
def test_what_cannot_be_matched_is_refused_with_what_can(name):
    for wrong in ("none", "net2winder"):
        with pytest.raises(ConfigError) as caught:
            EXPANSIONS.create({"name": name, "match": wrong})
        assert f"expansion.match = '{wrong}' is unknown" in str(caught.value)
        assert f"(allowed: {', '.join(SIZED)})" in str(caught.value)
    with pytest.raises(ConfigError, match=r"expansion.budget and expansion.match both set the size .* give one"):
        EXPANSIONS.create({"name": name, "match": "scratch", "budget": 2.0})


WHOLE = [name for name in SIZED if issubclass(EXPANSIONS[name], Copying) and EXPANSIONS[name].copies]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", [*WHOLE, "width_then_depth"])
def test_whole_copies_only_ever_have_integer_factors(name, family):
    base, more = MODELS[family](), options_for(name, family)
    for axis, factor in itertools.product(EXPANSIONS[name].axes(), [1.5, 2.0, 2.6, 3.0, 4.0]):
        try:
            budget = base.grown(axis, factor).parameters(DIGITS) / base.parameters(DIGITS)
            operator = EXPANSIONS[name](**{**more, "axis": axis, "budget": budget, "tolerance": 0.05})
            wide = operator.steps(base, DIGITS)[0][1]
        except UndefinedError:
            assert not factor.is_integer() or name in ("bert2bert_aki", "width_then_depth") or axis not in base.axes
            continue
        old, new = base.table(DIGITS), wide.table(DIGITS)
        every = new.groups if name == "hypercloning" else grown_coupled_groups(old, new)
        assert all(new.groups[group].size % old.groups[group].size == 0 for group in every)


@pytest.mark.parametrize("solved", ["width", "depth"])
@pytest.mark.parametrize("axis", ["width", "hidden"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_composition_meets_a_budget_by_either_factor(family, axis, solved):
    base, more = MODELS[family](), {"axis": axis, **options_for("width_then_depth", family)}
    both = EXPANSIONS["width_then_depth"](**more).target(base, DIGITS).architecture
    budget = both.parameters(DIGITS) / base.parameters(DIGITS)
    target = EXPANSIONS["width_then_depth"](**more, budget=budget, solve=solved).target(base, DIGITS)
    found = target.architecture
    assert found.parameters(DIGITS) == both.parameters(DIGITS)
    assert found.depth() > base.depth()
    assert target.axis == f"{axis}+depth"
    if solved == "width":
        assert [*map(len, found.blocks())] == [*map(len, both.blocks())], "the depth factor stays as given"
    else:
        assert found.extent("hidden") == both.extent("hidden"), "the width factor stays as given"


@pytest.mark.parametrize("solved", ["width", "depth"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_budget_below_a_compositions_other_factor_is_refused(family, solved):
    """Twice the blocks, or twice the width, are more than 1.2 times the parameters before anything is solved for."""
    more = {"axis": "hidden", "depth_factor": 3.0, **options_for("width_then_depth", family)}
    operator = EXPANSIONS["width_then_depth"](budget=1.2, solve=solved, **more)
    base = MODELS[family](**({"pools": (1, 2)} if family == "cnn" else {}))  # or its hidden units outweigh its layers
    with pytest.raises(UndefinedError, match="the nearest counts are"):
        operator.target(base, DIGITS)


@pytest.mark.parametrize("budget", [2.5, 3.0, 4.0, 6.0])
@pytest.mark.parametrize("family", FAMILIES)
def test_hidden_units_fill_up_what_depth_leaves_of_a_budget(family, budget):
    """Deeper by a common step, then as many hidden units as bring it within 1%."""
    base = MODELS[family](**({"hidden": (32, 32)} if family == "mlp" else {}))
    options = {"axis": "hidden", "depth_factor": 2.0, "budget": budget, **options_for("width_then_depth", family)}
    count = EXPANSIONS["width_then_depth"](**options).target(base, DIGITS).architecture.parameters(DIGITS)
    assert count == pytest.approx(budget * base.parameters(DIGITS), rel=0.01)


def test_the_factor_of_a_budget_is_recorded_with_few_digits():
    base = MODELS["mlp"]()
    target = EXPANSIONS["net2wider"](budget=2.0, factor=5.0).target(base, DIGITS)
    assert target.factor < 2.5, "the factor is solved for, the given one ignored"
    assert target.factor == round(sum(target.architecture.hidden) / sum(base.hidden), 4)


def test_a_budget_beyond_all_factors_is_refused():
    base = MODELS["vit"]()
    with pytest.raises(UndefinedError, match=r"expansion.budget = 4000 needs a factor above 64 along hidden"):
        EXPANSIONS["net2wider"](axis="hidden", budget=4000.0).target(base, DIGITS)
    largest = base.grown("depth", LARGEST_FACTOR)
    assert solve(base, DIGITS, "depth", largest.parameters(DIGITS), "", 0.001) == largest
