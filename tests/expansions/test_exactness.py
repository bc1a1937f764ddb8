"""What keeps the function keeps it exactly: running statistics, sequences, compositions, lines between two results.

That each operator keeps it is part of the contract (`test_contract.py`).
"""

import copy
import itertools

import pytest
import torch

from mmbench.expansions.base import EXPANSIONS
from mmbench.models.base import MODELS
from mmbench.models.copies import copied
from mmbench.models.reading import architecture_of
from mmbench.testing.cells import FAMILIES, Cell, assert_the_function_is_kept, wild_initialisation
from mmbench.testing.models import CLEARLY, EXACTLY, NETWORKS, difference, images, network
from tests.expansions.cells import DEFAULTS, DEFINED


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


WIDENED = {"net2wider": True, "hypercloning": True, "zero_pad": False}
"""Whether all new channels are copies."""


@pytest.mark.parametrize("cell", [c for c in DEFINED if c.operator in WIDENED and c.family == "resnet"], ids=str)
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
    assert counters
    assert all(new[name] == old[name] == 8 for name in counters)


def _sequences():
    """Every operator after itself and before and after two others; those of lemon, which changes eps, with all."""
    exact = [c for c in DEFAULTS if EXPANSIONS[c.operator].preserves == "exact"]
    exact = [c for c in exact if c.operator not in ("none", "width_then_depth")]  # which is a sequence itself
    exact += [Cell("zero_pad", {"axis": "heads"}, "vit"), Cell("net2wider", {"axis": "head_dim"}, "vit")]
    lemon = Cell("lemon", {"factor": 1.5}, "vit")
    for family in FAMILIES:
        cells = [c for c in exact if c.network == family]
        for i, first in enumerate(cells):
            yield from ((first, cells[(i + step) % len(cells)]) for step in range(min(3, len(cells))))
    for cell in [c for c in exact if c.network == "vit"]:
        yield from ((lemon, cell), (cell, lemon))


@pytest.mark.parametrize(("first", "second"), [*_sequences()], ids=str)
def test_two_expansions_in_sequence_are_exact(first, second, monkeypatch):
    wild_initialisation(monkeypatch)
    base = first.base()
    large = second.expand(first.expand(base))
    count = [sum(p.numel() for p in model.parameters()) for model in (base, large)]
    assert count[1] > count[0]
    assert_the_function_is_kept(base, large)


@pytest.mark.parametrize(("width", "axis"), [("net2wider", "width"), ("zero_pad", "hidden"), ("hypercloning", "width")])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_composition_is_its_two_steps(family, width, axis):
    base, depth = network(NETWORKS[family]), "net2deeper" if MODELS[family].plain else "identity_block"
    at_once = Cell("width_then_depth", {"width": width, "depth": depth, "axis": axis}, family).expand(base)
    in_steps = Cell(depth, {}, family).expand(Cell(width, {"axis": axis}, family).expand(base))
    assert architecture_of(at_once)[0] == architecture_of(in_steps)[0]
    states = at_once.state_dict(), in_steps.state_dict()
    assert all(torch.equal(a, b) for a, b in zip(*(state.values() for state in states), strict=True))


LINES = [
    *(Cell("net2wider", {}, name) for name in NETWORKS),
    *(Cell("net2wider", options, name) for name in FAMILIES for options in ({"factor": 3.0}, {"axis": "hidden"})),
    *(Cell("hypercloning", {}, name) for name in FAMILIES),
    *(Cell("lemon", {"factor": 1.5}, name) for name in NETWORKS if name.startswith("vit")),
    Cell("net2wider", {"axis": "heads"}, "vit"),
    Cell("net2wider", {"axis": "head_dim"}, "vit"),
]


@pytest.mark.parametrize("cell", LINES, ids=str)
def test_the_line_between_two_splits_of_one_map_keeps_the_function(cell, monkeypatch):
    """Both lie in one affine subspace of constant function: barriers between them are zero, also beyond the ends."""
    base, ends = cell.base(), []
    for draw in (1, 2):
        wild_initialisation(monkeypatch, draw)
        # The noise of hypercloning, whose map is fixed, is its only draw.
        ends.append(cell.expand(base, seed=draw if cell.operator == "hypercloning" else 0))
    vectors = [torch.nn.utils.parameters_to_vector(end.parameters()).detach() for end in ends]
    assert torch.dist(*vectors) > 0.3, "the ends coincide"
    for t in (0.5, 2.0):
        assert _change_on_line(base, *ends, t, False) <= EXACTLY
        assert _change_on_line(base, *ends, t, True) <= EXACTLY


@pytest.mark.parametrize("family", FAMILIES)
def test_the_line_between_different_maps_leaves_the_function(family):
    cell = Cell("net2wider", {}, family)
    base = cell.base()
    assert _change_on_line(base, cell.expand(base, seed=0), cell.expand(base, seed=3), 0.5, False) > CLEARLY


def _change_on_line(base, start, end, t, train):
    point = copied(start)
    with torch.no_grad():
        for p, q in zip(point.parameters(), end.parameters(), strict=True):
            p.lerp_(q, t)
    return difference(copied(base), point, train=train)
