"""Short trainings of small networks, and what the tests measure in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mmbench.models.base import Architecture
from tests.expansions.cells import Cell
from tests.models.networks import SHAPE, images, network

OPTIMISERS: dict[str, Callable] = {
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9),
    "AdamW": lambda parameters: torch.optim.AdamW(parameters, lr=1e-3),
}


def train(model: nn.Module, optimiser: str, steps: int) -> Iterator[float]:
    """Steps of full-batch training on random labels; yields the loss after each backward pass."""
    x = images(count=64)
    labels = torch.randint(SHAPE.classes, (len(x),), generator=torch.Generator().manual_seed(5))
    rule = OPTIMISERS[optimiser](model.parameters())
    model.train()
    for _ in range(steps):
        rule.zero_grad()
        loss = cross_entropy(model(x), labels)
        loss.backward()
        yield loss.item()
        rule.step()


def alive(model: nn.Module, threshold: float = 0.0) -> dict[str, Tensor]:
    """For each parameter, which of its entries got a gradient in one of the first three steps."""
    seen = {name: torch.zeros_like(p, dtype=torch.bool) for name, p in model.named_parameters()}
    for _ in train(model, "SGD", steps=3):
        for name, p in model.named_parameters():
            seen[name] |= p.grad.abs() > threshold
    return seen


@cache
def able_to_live(architecture: Architecture) -> dict[str, Tensor]:
    """The same of a network whose weights are all of order one; but for rounding, where a gradient can be at all.

    Never alive are the biases of keys, which the softmax cancels; those that a token MLP of a Mixer adds to all
    channels of a patch alike, which the LayerNorms cancel; and the taps of a kernel beyond the image.
    """
    return alive(network(architecture), threshold=1e-12)


def shares_alive(cell: Cell) -> dict[str, float]:
    """For each tensor that is new or has grown, the share of its entries that got a gradient, of those that can."""
    base = cell.base()
    sizes = {name: tensor.shape for name, tensor in base.state_dict().items()}
    shares, able = {}, able_to_live(cell.target().architecture)
    for name, seen in alive(cell.expand(base)).items():
        if able[name].any() and (sizes.get(name) != seen.shape or cell.preserves == "no"):
            shares[name] = float(seen[able[name]].float().mean())
    return shares


def first_rows(model: nn.Module, cell: Cell) -> Tensor:
    """The rows (C, ...) of the first weight that reads the input alone: the copies of a unit are equal there."""
    table = cell.architecture.table(SHAPE)
    name = next(name for name, axes in table.tensors.items() if len(axes) > 1 and axes[0].groups)
    return model.get_parameter(name).detach().flatten(1)


def distances_of_copies(cell: Cell, optimiser: str, steps: int = 20) -> tuple[float, Tensor]:
    """Largest distance of a copy from its original before training, and those of all copies after it."""
    base = cell.base()
    large = cell.expand(base)
    rows, count = first_rows(large, cell).clone(), len(first_rows(base, cell))
    originals = torch.cdist(rows[count:], rows[:count], compute_mode="donot_use_mm_for_euclid_dist").argmin(1)

    def distances() -> Tensor:
        now = first_rows(large, cell)
        return (now[count:] - now[originals]).norm(dim=1)

    before = distances()
    for _ in train(large, optimiser, steps):
        pass
    assert (first_rows(large, cell) - rows).norm(dim=1).min() > 1e-3, "nothing was learned"
    return float(before.max()), distances()
