"""New weights learn from the first steps on, and copies part."""

import pytest
import torch

from mmbench.expansions.base import EXPANSIONS
from mmbench.expansions.gradmax import GradMax
from mmbench.expansions.zero_pad import ZeroPad
from mmbench.models.base import MODELS
from tests.expansions.cells import DEFAULTS, DEFINED, NETWORKS, Cell
from tests.expansions.training import OPTIMISERS, distances_of_copies, shares_alive
from tests.models.networks import FAMILIES, network

ONE_AXIS_EACH = {(c.operator, c.family, c.options.get("axis")): c for c in reversed(DEFINED)}
GROWING = [c for c in DEFINED if c in ONE_AXIS_EACH.values() and EXPANSIONS[c.operator].arm != "control"]
"""For each operator, family and axis the first that is defined."""


@pytest.mark.parametrize("cell", GROWING, ids=str)
def test_every_new_tensor_slice_gets_a_gradient_within_three_steps(cell):
    shares = shares_alive(cell)
    assert shares
    # A ReLU unit may be dead from the start, and some more become so where the function is not kept.
    assert min(shares.values()) > (0.7 if cell.preserves == "exact" else 0.5), shares


def zero_in_and_random_out(patch):
    def new_entries(self, tensor, axes, kept):
        if axes and axes[0].role == "out":
            tensor[len(kept[0]) :] = 0

    patch(ZeroPad, "new_entries", new_entries)


def all_of_new_blocks_is_zero(patch):
    layers = {
        "resnet": [f"{part}{i}" for part in ("conv", "bn") for i in (1, 2)],
        "vit": ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"],
        "mixer": [f"{mlp}.fc{i}" for mlp in ("mlp_tokens", "mlp_channels") for i in (1, 2)],
        "convnext": ["conv_dw", "mlp.fc1", "mlp.fc2"],
    }
    for family, names in layers.items():
        parameters = tuple(f"{name}.{part}" for name in names for part in ("weight", "bias"))
        patch(MODELS[family], "silencers", lambda self, parameters=parameters: parameters)


def new_units_are_not_switched_on(patch):
    original = GradMax.fill

    def fill(self, growth):
        for name, tensor in original(self, growth):
            if tensor.dim() == 1:
                tensor[len(growth.small[name]) :] = 0
            yield name, tensor

    patch(GradMax, "fill", fill)


@pytest.mark.parametrize(
    ("mutant", "cell"),
    [
        (zero_in_and_random_out, Cell("zero_pad", {}, "mlp")),
        (zero_in_and_random_out, Cell("zero_pad", {}, "resnet")),
        (new_units_are_not_switched_on, Cell("gradmax", {}, "mlp")),
        *(
            (all_of_new_blocks_is_zero, Cell("identity_block", {}, name))
            for name in ("resnet", "vit", "mixer", "convnext without layer scale")
        ),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_dead_growth_is_seen(mutant, cell, monkeypatch):
    mutant(monkeypatch.setattr)
    assert min(shares_alive(cell).values()) < 0.3


SYMMETRIC = {
    "net2wider": {"split": "equal", "allow_symmetric": True},
    "hypercloning": {"snr_db": None, "allow_symmetric": True},
}
COPYING = [
    *(("net2wider", {"split": split}) for split in ("projection", "unequal", "paired")),
    ("hypercloning", {}),
    ("hypercloning", {"snr_db": 30.0}),
]


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize(
    "cell", [Cell(name, options, family) for name, options in COPYING for family in FAMILIES], ids=str
)
def test_copies_part(cell, optimiser):
    before, after = distances_of_copies(cell, optimiser)
    assert before == 0.0
    assert after.min() > 1e-5


@pytest.mark.parametrize("factor", [1.5, 2.0])
@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_copies_of_lemon_part(optimiser, factor):
    cell = Cell("lemon", {"factor": factor}, "vit")
    before, after = distances_of_copies(cell, optimiser)
    assert (before == 0.0) == (factor == 2.0), "channels that carry the mean are no copies"
    assert after.min() > 1e-5


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize(
    "cell", [Cell(name, options, family) for name, options in SYMMETRIC.items() for family in FAMILIES], ids=str
)
def test_copies_of_an_equal_split_never_part(cell, optimiser):
    before, after = distances_of_copies(cell, optimiser)
    assert before == 0.0
    assert after.max() < 1e-10


ROWS = {  # of the first of two equal blocks, and of the last, which has no block after it
    "mlp": ("fc2.weight", "fc3.weight"),
    "resnet": ("stages.1.1.conv1.weight", "stages.1.2.conv1.weight"),
    "vit": ("blocks.0.mlp.fc1.weight", "blocks.1.mlp.fc1.weight"),
    "mixer": ("blocks.0.mlp_tokens.fc1.weight", "blocks.1.mlp_tokens.fc1.weight"),
    "convnext": ("stages.1.blocks.0.mlp.fc1.weight", "stages.1.blocks.1.mlp.fc1.weight"),
}


@pytest.mark.parametrize("cell", [c for c in DEFAULTS if c.operator == "bert2bert_aki"], ids=str)
def test_new_rows_of_bert2bert_aki_are_those_of_the_next_block(cell):
    base = network(NETWORKS[cell.network])
    large = Cell("bert2bert_aki", {"axis": "hidden"}, cell.network).expand(base)
    first, last = ROWS[cell.family]
    small = {name: base.get_parameter(name).detach().flatten(1) for name in (first, last)}
    rows = {name: large.get_parameter(name).detach().flatten(1)[len(small[first]) :] for name in (first, last)}
    read = [name for name in ROWS[cell.family] if rows[name].shape[1] == small[name].shape[1]]  # columns did not grow
    for name in read:
        assert torch.cdist(rows[name], small[last]).amin(1).max() == 0.0, name
    for name in read[: first in read]:
        assert torch.cdist(rows[name], small[first]).min() > 1e-3, "its copies differ at once"
