"""What keeps the function keeps it exactly, in evaluation and in training mode; what is not defined says why."""

import copy
import itertools
import math

import pytest
import torch
from models.networks import FAMILIES, SHAPE, difference, images, network, small

from expansions.cells import DEFINED, EXACT, INEXACT, OPERATORS, VARIANTS, Cell
from mmbench.errors import UndefinedError
from mmbench.expansions.base import expand
from mmbench.models.base import architecture_of
from mmbench.registry import EXPANSIONS

EXACTLY = 1e-10
CLEARLY = 1e-3

# All that is refused: a LayerNorm runs over the ViT's stream, an MLP has no residual blocks, and timm's basic block has
# no inner width of its own.
UNDEFINED = {
    "default options": ({}, {("identity_block", "mlp"), ("zero_pad", "vit")}),
    "axis=hidden": (
        {"axis": "hidden"},
        {(name, "resnet") for name in ("net2wider", "zero_pad", "random_pad", "scratch")},
    ),
    "axis=depth": ({"axis": "depth"}, {("identity_block", "mlp"), ("scratch", "mlp")}),
    "factor=1.5": ({"factor": 1.5}, {("identity_block", "mlp"), ("zero_pad", "vit"), ("net2wider", "vit")}),
}
REASONS = {
    "zero_pad on vit": "'stream': a LayerNorm runs over it, and new channels would change its mean and variance; use "
    "expansion.axis=hidden",
    "net2wider factor=1.5 on vit": "'stream' whole, since a LayerNorm runs over it, and 6 -> 9 is no integer factor",
    "net2wider axis=hidden on resnet": "use expansion.axis=width",
    "identity_block on mlp": "the family 'mlp' has no residual blocks",
    "scratch axis=depth on mlp": "the family 'mlp' has no residual blocks",
}


def test_operators_claim_what_is_known():
    claims = {name: (EXPANSIONS[name].preserves, EXPANSIONS[name].arm) for name in OPERATORS}
    assert (
        claims.items()
        >= {
            "net2wider": ("exact", "expansion"),
            "zero_pad": ("exact", "expansion"),
            "identity_block": ("exact", "expansion"),
            "random_pad": ("no", "expansion"),
            "none": ("exact", "control"),
            "scratch": ("no", "control"),
        }.items()
    )


@pytest.mark.parametrize(("options", "expected"), UNDEFINED.values(), ids=UNDEFINED.keys())
def test_the_undefined_pairs_are_these(options, expected):
    known = itertools.product([*VARIANTS, "none"], ["mlp", "resnet", "vit"])
    found = set()
    for name, family in known:
        try:
            operator = EXPANSIONS[name](**options)
        except ValueError:
            continue  # the operator has no such option
        try:
            operator.target(small(family), SHAPE)
        except UndefinedError:
            found.add((name, family))
    assert found == expected


@pytest.mark.parametrize("id_", REASONS)
def test_an_undefined_pair_gives_its_reason_and_builds_nothing(id_):
    operator, *options, _, family = id_.split(" ")
    options = {key: float(value) if key == "factor" else value for key, value in (o.split("=") for o in options)}
    with pytest.raises(UndefinedError) as caught:
        Cell(operator, options, family).expand()
    assert REASONS[id_] in str(caught.value)


def test_a_factor_that_changes_nothing_is_refused():
    with pytest.raises(UndefinedError, match=r"expansion.factor = 1\.01 rounds to the base model's own size; raise it"):
        expand(network(small("mlp")), "net2wider", factor=1.01)


@pytest.mark.parametrize("cell", EXACT, ids=str)
def test_the_function_is_kept(cell, wild_initialisation):
    base = network(small(cell.family))
    large = cell.expand(base)
    assert difference(base, large) <= EXACTLY, "in evaluation mode"
    assert difference(base, large, train=True) <= EXACTLY, "in training mode"
    # The batch has moved all running statistics by now: those of copies must have moved alike.
    assert difference(base, large) <= EXACTLY, "in evaluation mode, after a batch in training mode"


@pytest.mark.parametrize("cell", EXACT, ids=str)
def test_the_function_is_kept_in_float32(cell):
    base = network(small(cell.family), torch.float32)
    with torch.no_grad():
        largest = float(base(images(dtype=torch.float32)).abs().max())
    assert difference(base, cell.expand(base)) <= 1e-5 * (1 + largest)


@pytest.mark.parametrize("cell", INEXACT, ids=str)
def test_the_function_is_not_kept_by_operators_that_do_not_claim_it(cell):
    base = network(small(cell.family))
    change = difference(base, cell.expand(base))
    assert math.isfinite(change)
    assert change > CLEARLY


@pytest.mark.parametrize("cell", DEFINED, ids=str)
def test_an_expanded_network_is_rebuilt_from_its_sizes_and_state(cell):
    large = cell.expand()
    target = cell.target().architecture
    assert architecture_of(large)[0] == target
    rebuilt = target.build(SHAPE).double()
    rebuilt.load_state_dict(large.state_dict(), strict=True)
    assert difference(large, rebuilt) == 0.0
    assert difference(large, rebuilt, train=True) == 0.0


@pytest.mark.parametrize("cell", [c for c in DEFINED if c.operator in ("net2wider", "zero_pad")], ids=str)
def test_running_statistics_of_old_channels_and_copies_follow_the_small_network(cell):
    base = network(small(cell.family))
    large = cell.expand(base)
    difference(base, large, train=True)
    old, new = base.state_dict(), large.state_dict()
    for name in [name for name in old if name.endswith("running_mean")]:
        small_, large_ = (torch.stack([state[name], state[name.replace("mean", "var")]], dim=1) for state in (old, new))
        assert torch.allclose(large_[: len(small_)], small_, rtol=0, atol=EXACTLY)
        distances = torch.cdist(large_[len(small_) :], small_).amin(1)
        assert (distances.max() < EXACTLY) == (cell.operator == "net2wider"), name
    counters = [name for name in old if name.endswith("num_batches_tracked")]
    assert all(new[name] == old[name] == 8 for name in counters)
    assert bool(counters) == (cell.family == "resnet")


def _sequences():
    exact = [cell for cell in EXACT if not cell.options and cell.operator != "none"]
    hidden = Cell("zero_pad", {"axis": "hidden"}, "vit")
    return [(a, b) for a, b in itertools.product([*exact, hidden], repeat=2) if a.family == b.family]


@pytest.mark.parametrize(("first", "second"), _sequences(), ids=str)
def test_an_expanded_network_can_be_expanded_again(first, second, wild_initialisation):
    base = network(small(first.family))
    large = second.expand(first.expand(base), seed=1)
    assert difference(base, large) <= EXACTLY
    assert difference(base, large, train=True) <= EXACTLY
    assert difference(base, large) <= EXACTLY


@pytest.mark.parametrize("mode", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize("options", [{}, {"factor": 3.0}], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_line_between_two_projection_splits_of_one_map_keeps_the_function(
    family, options, mode, wild_initialisation
):
    """Both lie in one affine subspace of constant function: barriers between them are zero, also beyond the ends."""
    base, cell = network(small(family)), Cell("net2wider", options, family)
    ends = []
    for draw in (1, 2):
        wild_initialisation(draw)
        ends.append(cell.expand(base))
    vectors = [torch.nn.utils.parameters_to_vector(end.parameters()).detach() for end in ends]
    assert torch.dist(*vectors) > 1, "the ends coincide"
    for t in (-1.0, 0.3, 0.5, 2.0):
        assert _change_on_line(base, *ends, t, mode) <= EXACTLY


@pytest.mark.parametrize("family", FAMILIES)
def test_the_line_between_different_maps_leaves_the_function(family):
    base, cell = network(small(family)), Cell("net2wider", {}, family)
    assert _change_on_line(base, cell.expand(base, seed=0), cell.expand(base, seed=3), 0.5, False) > CLEARLY


def _change_on_line(base, start, end, t, train):
    point = copy.deepcopy(start)
    with torch.no_grad():
        for p, q in zip(point.parameters(), end.parameters(), strict=True):
            p.lerp_(q, t)
    return difference(copy.deepcopy(base), point, train=train)
