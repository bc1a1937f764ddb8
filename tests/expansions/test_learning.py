"""Copies become different in training; and growth that cannot learn, which the contract refuses, is seen."""

import pytest
import torch

from mmbench.expansions.apply import expand
from mmbench.expansions.copying import Copying
from mmbench.expansions.gradmax import GradMax
from mmbench.expansions.zero_pad import ZeroPad
from mmbench.models.base import MODELS
from mmbench.testing.cells import (
    FAMILIES,
    PARTED,
    Cell,
    closest,
    grown_groups,
    parting,
    shares_with_gradients,
    train,
    units_of,
)
from mmbench.testing.models import EXACTLY, NETWORKS, SHAPE, difference, network
from tests.expansions.cells import DEFAULTS


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
    assert min(shares_with_gradients(cell).values()) < 0.3


OPTIMISERS = {"SGD": (torch.optim.SGD, {"lr": 0.05, "momentum": 0.9}), "AdamW": (torch.optim.AdamW, {"lr": 1e-3})}


def first_rows(model, cell):
    """The rows (C, ...) of the first weight that reads the input alone: the copies of a channel are equal there."""
    table = cell.architecture.table(SHAPE)
    name = next(name for name, axes in table.tensors.items() if len(axes) > 1 and axes[0].groups)
    return model.get_parameter(name).detach().flatten(1)


def distances_of_copies(cell, optimiser, steps=10):
    """Largest distance of a copy from its original before training, and those of all copies after it."""
    base = cell.base()
    large = cell.expand(base)
    rows, count = first_rows(large, cell).clone(), len(first_rows(base, cell))
    originals = torch.cdist(rows[count:], rows[:count], compute_mode="donot_use_mm_for_euclid_dist").argmin(1)

    def distances():
        now = first_rows(large, cell)
        return (now[count:] - now[originals]).norm(dim=1)

    before, (rule, options) = distances(), OPTIMISERS[optimiser]
    for _ in train(large, rule, steps, **options):
        pass
    assert (first_rows(large, cell) - rows).norm(dim=1).min() > 1e-3, "nothing was learned"
    return float(before.max()), distances()


SYMMETRIC = {
    "net2wider": {"split": "equal", "allow_symmetric": True},
    "hypercloning": {"snr_db": None, "allow_symmetric": True},
}
COPYING = [
    *(("net2wider", {"split": split}) for split in ("projection", "unequal", "paired")),
    ("hypercloning", {}),
    ("hypercloning", {"snr_db": 30.0}),
]


@pytest.mark.parametrize(
    ("cell", "optimiser"),
    [(Cell(name, options, family), "SGD") for name, options in COPYING for family in FAMILIES]
    + [(Cell(name, {}, family), "AdamW") for name in SYMMETRIC for family in FAMILIES],
    ids=str,
)
def test_copies_become_different(cell, optimiser):
    before, after = distances_of_copies(cell, optimiser)
    assert before == 0.0
    assert after.min() > 1e-5


@pytest.mark.parametrize("factor", [1.5, 2.0])
def test_copies_of_lemon_become_different(factor):
    cell = Cell("lemon", {"factor": factor}, "vit")
    before, after = distances_of_copies(cell, "AdamW")
    assert (before == 0.0) == (factor == 2.0), "channels that carry the mean are no copies"
    assert after.min() > 1e-5


@pytest.mark.parametrize(
    ("cell", "optimiser"),
    [
        (Cell(name, options, family), optimiser)
        for (name, options), optimiser in zip(SYMMETRIC.items(), OPTIMISERS, strict=True)
        for family in FAMILIES
    ],
    ids=str,
)
def test_copies_of_an_equal_split_stay_equal(cell, optimiser):
    before, after = distances_of_copies(cell, optimiser)
    assert before == 0.0
    assert after.max() < 1e-10


HEADS = {"mlp": "head", "cnn": "head", "resnet": "fc", "vit": "head", "mixer": "head", "convnext": "head.fc"}
SPLITTING = [("hypercloning", {}), ("lemon", {}), ("bert2bert_aki", {}), ("ligo", {"learning_steps": 2})] + [
    ("net2wider", {"split": split}) for split in ("projection", "unequal", "paired")
]
WITH_HEADS = [
    (cell, scale)
    for name, options in SPLITTING
    for cell in (Cell(name, options, family) for family in FAMILIES)
    if cell.is_defined()
    for scale in (1.0, 0.0, 1e-5)
]


def with_head(cell, scale):
    """The small network with a classifier of that scale, before or early in its training."""
    base = cell.base()
    with torch.no_grad():
        head = base.get_submodule(HEADS[cell.family])
        head.weight.mul_(scale)
        head.bias.mul_(scale)
    return base


@pytest.mark.parametrize(("cell", "scale"), [(c, s) for c, s in WITH_HEADS if c.operator != "ligo"], ids=str)
def test_no_two_copies_write_the_same(cell, scale):
    """Also in a classifier that is zero, whose shares are zero, and where the fresh classifier is, as a Mixer's."""
    base, target = with_head(cell, scale), cell.target().architecture
    large, grown = cell.expand(base), grown_groups(cell.architecture, target)
    for label, group, units in units_of(target.table(SHAPE), dict(large.named_parameters())):
        if group in grown and " in " in label:
            # the copies' shares differ by 1 / 6 r = 1 / 12; random columns of three entries are farther apart
            assert closest(units, units.norm(dim=1)) > 1 / 50, label
    assert difference(base, large) <= EXACTLY or cell.operator == "bert2bert_aki"


@pytest.mark.parametrize(("cell", "scale"), [(c, s) for c, s in WITH_HEADS if s == 0.0], ids=str)
def test_units_under_a_classifier_of_zeros_become_different(cell, scale):
    assert min(parting(cell, with_head(cell, scale)).values()) > PARTED


@pytest.mark.parametrize("split", ["projection", "unequal", "paired"])
@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("name", ["vit", "vit of other biases"])
def test_queries_and_keys_become_different(split, optimiser, name):
    rule, options = OPTIMISERS[optimiser]
    cell = Cell("net2wider", {"axis": "head_dim", "factor": 3.0, "split": split}, name)
    assert min(parting(cell, None, rule, **options).values()) > PARTED


def test_copied_queries_are_twins_that_are_seen(monkeypatch):
    def copied(self, growth, name, maps, small, rows):
        rows[: len(rows) // 3] /= 2**0.5

    monkeypatch.setattr(Copying, "_split_queries", copied)
    cell = Cell("net2wider", {"axis": "head_dim"}, "vit")
    assert difference(cell.base(), cell.expand()) <= EXACTLY
    assert {label.split()[1] for label, share in parting(cell).items() if share < 1e-9} == {"0", "1"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_large_weights_are_split_where_the_fresh_ones_are_zero(dtype):
    """A Mixer's classifier starts at zero: its rows have no size by which they could be scaled."""
    base = network(NETWORKS["mixer"], dtype)
    with torch.no_grad():
        base.head.weight.mul_(1e4)
    assert difference(base, expand(base, "net2wider")) <= 1e5 * (1e-5 if dtype == torch.float32 else 1e-13)


ROWS = {  # of the first of two equal blocks, and of the last, which has no block after it
    "mlp": ("fc2.weight", "fc3.weight"),
    "cnn": ("fc2.weight", "fc3.weight"),
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
