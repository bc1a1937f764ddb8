"""New weights learn from the first steps on, and copies part."""

import pytest
import torch
from models.networks import FAMILIES, SHAPE, images, network, small
from torch.nn.functional import cross_entropy

from expansions.cells import DEFINED, Cell
from mmbench.expansions.zero_pad import ZeroPad
from mmbench.models.resnet import ResNet
from mmbench.models.vit import ViT

OPTIMISERS = {
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9),
    "AdamW": lambda parameters: torch.optim.AdamW(parameters, lr=1e-3),
}


def train(model, optimiser, steps):
    """Steps of full-batch training on random labels; yields after each backward pass."""
    x = images(count=64)
    labels = torch.randint(SHAPE.classes, (len(x),), generator=torch.Generator().manual_seed(5))
    model.train()
    for _ in range(steps):
        optimiser.zero_grad()
        cross_entropy(model(x), labels).backward()
        yield
        optimiser.step()


def alive(model):
    """For each parameter, which of its entries got a gradient in one of the first three steps."""
    seen = {name: torch.zeros_like(p, dtype=torch.bool) for name, p in model.named_parameters()}
    for _ in train(model, OPTIMISERS["SGD"](model.parameters()), steps=3):
        for name, p in model.named_parameters():
            seen[name] |= p.grad.abs() > 1e-12
    return seen


def shares_alive(cell):
    """For each tensor that is new or has grown, the share of its entries that got a gradient."""
    base = network(small(cell.family))
    sizes = {name: tensor.shape for name, tensor in base.state_dict().items()}
    shares = {}
    for name, seen in alive(cell.expand(base)).items():
        if sizes.get(name) != seen.shape or cell.preserves == "no":
            if name.endswith("qkv.bias"):  # a key's bias adds the same to all scores of a query: the softmax cancels it
                seen = torch.cat([seen.chunk(3)[0], seen.chunk(3)[2]])
            shares[name] = float(seen.float().mean())
    return shares


@pytest.mark.parametrize("cell", DEFINED, ids=str)
def test_every_new_tensor_slice_gets_a_gradient_within_three_steps(cell):
    shares = shares_alive(cell)
    assert bool(shares) == (cell.operator != "none")
    assert min(shares.values(), default=1.0) > 0.7, shares  # a ReLU unit may be dead from the start


def zero_in_and_random_out(patch):
    def new_entries(self, tensor, axes, kept):
        if axes and axes[0].role == "out":
            tensor[len(kept[0]) :] = 0

    patch(ZeroPad, "new_entries", new_entries)


def all_weights_of_new_blocks_are_zero(patch):
    patch(ResNet, "zero_to_silence", [f"{part}{i}.weight" for part in ("conv", "bn") for i in (1, 2)])
    patch(ViT, "zero_to_silence", [f"{part}.weight" for part in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")])


@pytest.mark.parametrize(
    ("mutant", "cell"),
    [
        (zero_in_and_random_out, Cell("zero_pad", {}, "mlp")),
        (zero_in_and_random_out, Cell("zero_pad", {}, "resnet")),
        (all_weights_of_new_blocks_are_zero, Cell("identity_block", {}, "resnet")),
        (all_weights_of_new_blocks_are_zero, Cell("identity_block", {}, "vit")),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_dead_growth_is_seen(mutant, cell, monkeypatch):
    mutant(monkeypatch.setattr)
    assert min(shares_alive(cell).values()) < 0.3


def first_rows(model, family):
    """The rows (C, ...) of the first weight that reads the input alone: the copies of a unit are equal there."""
    table = small(family).table(SHAPE)
    name = next(
        n for n, axes in table.tensors.items() if len(axes) > 1 and [bool(a.group) for a in axes].index(True) == 0
    )
    return model.get_parameter(name).detach().flatten(1)


def distances_of_copies(split, family, optimiser):
    """Largest distance of a copy from its original before training, and all of them after 20 steps."""
    base = network(small(family))
    options = {"split": split, "allow_symmetric": split == "equal"}
    large = Cell("net2wider", options, family).expand(base)
    rows, count = first_rows(large, family).clone(), len(first_rows(base, family))
    originals = torch.cdist(rows[count:], rows[:count], compute_mode="donot_use_mm_for_euclid_dist").argmin(1)

    def distances():
        now = first_rows(large, family)
        return (now[count:] - now[originals]).norm(dim=1)

    before = distances()
    for _ in train(large, OPTIMISERS[optimiser](large.parameters()), steps=20):
        pass
    assert (first_rows(large, family) - rows).norm(dim=1).min() > 1e-3, "nothing was learned"
    return float(before.max()), distances()


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("split", ["projection", "unequal"])
@pytest.mark.parametrize("family", FAMILIES)
def test_copies_part(family, split, optimiser):
    before, after = distances_of_copies(split, family, optimiser)
    assert before == 0.0
    assert after.min() > 1e-5


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("family", FAMILIES)
def test_copies_of_an_equal_split_never_part(family, optimiser):
    before, after = distances_of_copies("equal", family, optimiser)
    assert before == 0.0
    assert after.max() < 1e-10
