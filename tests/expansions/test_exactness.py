"""What keeps the function keeps it exactly, in evaluation and in training mode."""

import copy
import itertools
import math

import pytest
import torch

from mmbench.models.reading import architecture_of
from tests.expansions.cells import DEFAULTS, DEFINED, EXACT, INEXACT, NETWORKS, Cell
from tests.models.networks import FAMILIES, SHAPE, difference, images, network

EXACTLY = 1e-10
CLEARLY = 1e-3


@pytest.mark.parametrize("name", NETWORKS)
def test_the_networks_that_the_tests_use_can_tell_a_difference(name):
    """Logits depend on the images, and each block moves them."""
    model = network(NETWORKS[name])
    with torch.no_grad():
        logits = model(images())
        assert logits.std(0).min() > 1e-2
        for block in itertools.chain(*NETWORKS[name].blocks()):
            moved = copy.deepcopy(model)
            for parameter in moved.get_submodule(block).parameters():
                parameter.mul_(1.1)
            assert (moved(images()) - logits).abs().max() > CLEARLY, block


@pytest.mark.parametrize("cell", EXACT, ids=str)
def test_the_function_is_kept(cell, wild_initialisation):
    base = cell.base()
    large = cell.expand(base)
    assert difference(base, large) <= EXACTLY, "in evaluation mode"
    assert difference(base, large, train=True) <= EXACTLY, "in training mode"
    # The batch has moved all running statistics by now: those of copies must have moved alike.
    assert difference(base, large) <= EXACTLY, "in evaluation mode, after a batch in training mode"


@pytest.mark.parametrize("cell", [cell for cell in DEFAULTS if cell.preserves == "exact"], ids=str)
def test_the_function_is_kept_in_float32(cell):
    base = cell.base(torch.float32)
    with torch.no_grad():
        largest = float(base(images(dtype=torch.float32)).abs().max())
    assert difference(base, cell.expand(base)) <= 1e-5 * (1 + largest)


@pytest.mark.parametrize("cell", INEXACT, ids=str)
def test_the_function_is_not_kept_by_operators_that_do_not_claim_it(cell, wild_initialisation):
    base = cell.base()
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


WIDENED = {"net2wider": True, "hypercloning": True, "zero_pad": False}
"""Whether all new channels are copies."""


@pytest.mark.parametrize("cell", [c for c in DEFINED if c.operator in WIDENED], ids=str)
def test_running_statistics_of_old_channels_and_copies_follow_the_small_network(cell):
    base = cell.base()
    large = cell.expand(base)
    difference(base, large, train=True)
    old, new = base.state_dict(), large.state_dict()
    for name in [name for name in old if name.endswith("running_mean")]:
        small_, large_ = (torch.stack([state[name], state[name.replace("mean", "var")]], dim=1) for state in (old, new))
        assert torch.allclose(large_[: len(small_)], small_, rtol=0, atol=EXACTLY)
        if len(large_) > len(small_):
            distances = torch.cdist(large_[len(small_) :], small_).amin(1)
            assert (distances.max() < EXACTLY) == WIDENED[cell.operator], name
    counters = [name for name in old if name.endswith("num_batches_tracked")]
    assert all(new[name] == old[name] == 8 for name in counters)
    assert bool(counters) == (cell.family == "resnet")


def _sequences():
    """All ordered pairs, except those of compositions, which are sequences themselves."""
    exact = [c for c in DEFAULTS if c.preserves == "exact" and c.operator not in ("none", "width_then_depth")]
    exact += [Cell("zero_pad", {"axis": "heads"}, "vit"), Cell("net2wider", {"axis": "head_dim"}, "vit")]
    exact += [Cell("lemon", {"factor": 1.5}, "vit")]
    return [(a, b) for a, b in itertools.product(exact, repeat=2) if a.network == b.network]


@pytest.mark.parametrize(("first", "second"), _sequences(), ids=str)
def test_two_expansions_in_sequence_are_exact(first, second, wild_initialisation):
    base = first.base()
    large = second.expand(first.expand(base))
    count = [sum(p.numel() for p in model.parameters()) for model in (base, large)]
    assert count[1] > count[0]
    assert difference(base, large) <= EXACTLY
    assert difference(base, large, train=True) <= EXACTLY
    assert difference(base, large) <= EXACTLY


@pytest.mark.parametrize(("width", "axis"), [("net2wider", "width"), ("zero_pad", "hidden"), ("hypercloning", "width")])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_composition_is_its_two_steps(family, width, axis):
    base, depth = network(NETWORKS[family]), "net2deeper" if family == "mlp" else "identity_block"
    at_once = Cell("width_then_depth", {"width": width, "depth": depth, "axis": axis}, family).expand(base)
    in_steps = Cell(depth, {}, family).expand(Cell(width, {"axis": axis}, family).expand(base))
    assert architecture_of(at_once)[0] == architecture_of(in_steps)[0]
    states = at_once.state_dict(), in_steps.state_dict()
    assert all(torch.equal(a, b) for a, b in zip(*(state.values() for state in states), strict=True))


LINES = [
    *(Cell("net2wider", options, name) for name in NETWORKS for options in ({}, {"factor": 3.0}, {"axis": "hidden"})),
    *(Cell("hypercloning", {}, name) for name in NETWORKS),
    *(Cell("lemon", {"factor": f}, name) for f in (1.5, 2.0) for name in NETWORKS if name.startswith("vit")),
    Cell("net2wider", {"axis": "heads"}, "vit"),
    Cell("net2wider", {"axis": "head_dim"}, "vit"),
]


@pytest.mark.parametrize("cell", LINES, ids=str)
def test_the_line_between_two_splits_of_one_map_keeps_the_function(cell, wild_initialisation):
    """Both lie in one affine subspace of constant function: barriers between them are zero, also beyond the ends."""
    base, ends = cell.base(), []
    for draw in (1, 2):
        wild_initialisation(draw)
        # The noise of hypercloning, whose map is fixed, is its only draw.
        ends.append(cell.expand(base, seed=draw if cell.operator == "hypercloning" else 0))
    vectors = [torch.nn.utils.parameters_to_vector(end.parameters()).detach() for end in ends]
    assert torch.dist(*vectors) > 0.3, "the ends coincide"
    for t in (-1.0, 0.3, 0.5, 2.0):
        assert _change_on_line(base, *ends, t, False) <= EXACTLY
        assert _change_on_line(base, *ends, t, True) <= EXACTLY


@pytest.mark.parametrize("family", FAMILIES)
def test_the_line_between_different_maps_leaves_the_function(family):
    cell = Cell("net2wider", {}, family)
    base = cell.base()
    assert _change_on_line(base, cell.expand(base, seed=0), cell.expand(base, seed=3), 0.5, False) > CLEARLY


def _change_on_line(base, start, end, t, train):
    point = copy.deepcopy(start)
    with torch.no_grad():
        for p, q in zip(point.parameters(), end.parameters(), strict=True):
            p.lerp_(q, t)
    return difference(copy.deepcopy(base), point, train=train)
