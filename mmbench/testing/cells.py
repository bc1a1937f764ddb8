"""Small test cases of expansions: an operator with options on one of the small networks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mmbench.data.base import InputShape
from mmbench.errors import UndefinedError
from mmbench.expansions.apply import expand
from mmbench.expansions.base import EXPANSIONS, Target
from mmbench.models.base import MODELS, Architecture
from mmbench.models.copies import copied
from mmbench.models.table import Table
from mmbench.testing.models import EXACTLY, NETWORKS, SHAPE, difference, images, network, randomised

FAMILIES = MODELS.names()
DIGITS = InputShape(channels=1, image_size=8, classes=10)


class Cell(NamedTuple):
    """An operator with options on one of `NETWORKS`."""

    operator: str
    options: Mapping[str, Any]
    network: str
    quick: Mapping[str, Any] = {}
    """Options that make it fast and do not change the larger architecture."""

    def __hash__(self) -> int:
        """Hash of its text, since options are not hashable."""
        return hash(str(self))

    def __str__(self) -> str:
        """The id of a test."""
        options = "".join(f" {key}={value}" for key, value in self.options.items())
        return f"{self.operator}{options} on {self.network}"

    @property
    def architecture(self) -> Architecture:
        """The small network's architecture."""
        return NETWORKS[self.network]

    @property
    def family(self) -> str:
        """The small network's family."""
        return self.architecture.name

    def base(self, dtype: torch.dtype = torch.float64) -> nn.Module:
        """The small network, with weights of order one."""
        return copied(_base(self.architecture, dtype))

    def target(self) -> Target:
        """The larger architecture; `UndefinedError` if there is none."""
        return EXPANSIONS[self.operator](**self.options).target(self.architecture, SHAPE)

    def is_defined(self) -> bool:
        """Whether there is a larger architecture."""
        return _is_defined(self)

    def expand(self, model: nn.Module | None = None, seed: int = 0, **options: Any) -> nn.Module:
        """The larger network.

        Args:
            model: the network to expand; the small network unless given.
            seed: of the random draws.
            **options: override those of the cell.

        Returns:
            A new network.
        """
        model = self.base() if model is None else model
        return expand(model, self.operator, data=examples(), seed=seed, **{**self.quick, **self.options, **options})


@cache
def _is_defined(cell: Cell) -> bool:
    try:
        cell.target()
    except UndefinedError:
        return False
    return True


@lru_cache(maxsize=64)
def _base(architecture: Architecture, dtype: torch.dtype) -> nn.Module:
    return network(architecture, dtype)


@cache
def examples() -> tuple[Tensor, Tensor]:
    """Images with labels that can be learned: the brightest of three parts of the first channel."""
    x = images(count=48, seed=5)
    return x, torch.stack([part.mean((1, 2)) for part in x[:, 0].chunk(SHAPE.classes, dim=1)]).argmax(0)


def axes_of(operator: str) -> list[dict[str, Any]]:
    """The operator's defaults, and each of its other axes."""
    cls = EXPANSIONS[operator]
    default = getattr(cls(), "axis", None)
    return [{}, *({"axis": axis} for axis in cls.axes() if axis != default)]


def same(first: nn.Module, second: nn.Module) -> bool:
    """Whether two networks have the same state, bit for bit."""
    a, b = first.state_dict(), second.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a)


def train(model: nn.Module, optimiser: type[torch.optim.Optimizer], steps: int, **options: Any) -> Iterator[float]:
    """Train on random labels, all images in one batch.

    Args:
        model: for images of `SHAPE`; changed in place.
        optimiser: a class of torch.optim.
        steps: how many.
        **options: of the optimiser.

    Yields:
        The loss of each step after its backward pass and before the update.
    """
    x = images(count=64)
    labels = torch.randint(SHAPE.classes, (len(x),), generator=torch.Generator().manual_seed(5))
    rule = optimiser(model.parameters(), **options)
    model.train()
    for _ in range(steps):
        rule.zero_grad()
        loss = cross_entropy(model(x), labels)
        loss.backward()
        yield loss.item()
        rule.step()


def entries_with_gradients(model: nn.Module, threshold: float = 0.0) -> dict[str, Tensor]:
    """For each parameter, which of its entries get a gradient above the threshold in one of three steps of SGD."""
    reached = {name: torch.zeros_like(p, dtype=torch.bool) for name, p in model.named_parameters()}
    for _ in train(model, torch.optim.SGD, steps=3, lr=0.05, momentum=0.9):
        for name, p in model.named_parameters():
            if p.grad is not None:
                reached[name] |= p.grad.abs() > threshold
    return reached


@cache
def trainable_entries(architecture: Architecture) -> dict[str, Tensor]:
    """The entries that can have a gradient: those that have one in a network with all weights of order one.

    Others are the biases of keys, which the softmax cancels; biases that a Mixer's token MLP adds equally to all
    channels of a patch, which the LayerNorms cancel; and positions of a kernel that are always outside the image.

    Returns:
        For each parameter a boolean tensor of its shape.
    """
    return entries_with_gradients(network(architecture), threshold=1e-12)


def shares_with_gradients(cell: Cell) -> dict[str, float]:
    """For each tensor that is new or has grown, the share of its trainable entries that get a gradient."""
    base = cell.base()
    sizes = {name: tensor.shape for name, tensor in base.state_dict().items()}
    shares, trainable = {}, trainable_entries(cell.target().architecture)
    for name, reached in entries_with_gradients(cell.expand(base)).items():
        if trainable[name].any() and (sizes.get(name) != reached.shape or EXPANSIONS[cell.operator].preserves == "no"):
            shares[name] = float(reached[trainable[name]].float().mean())
    return shares


PARTED = 1e-3
"""The least share of what two units have learned that must separate them; see `parting`.

Twins are told apart by their outgoing weights u. Their gradients differ by the share |n a| / 2 |u a|, with n the
difference of the u and a the gradient of what they write to. The smallest n of the defaults is the noise of
`hypercloning`, 10 decibels below u: 0.3 |u|. In the worst case a has one direction all the time. Then n a is normal,
and the smallest of 200 pairs has 0.006 of its standard deviation: a share of 0.002. Twins that never part have the
share of rounding errors, below 1e-9.
"""


def units_of(table: Table, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, str, Tensor]]:
    """The weights of every unit, apart for each matrix and, in a `qkv`, for queries, keys and values.

    Args:
        table: of the network.
        tensors: its parameters by name; biases, and those with one entry per unit, are left out.

    Yields:
        A label, the channel group, and (units, entries).
    """
    for name, tensor in tensors.items():
        for dim, axis in enumerate(table.tensors[name] if tensor.dim() > 1 else ()):
            sizes = [table.groups[part].size if isinstance(part, str) else part for part in axis.parts]
            parts = tensor.detach().unflatten(dim, sizes)
            for place, part in enumerate(axis.parts):
                if isinstance(part, int) or tensor.numel() == table.groups[part].size:
                    continue
                apart = parts.unbind(dim) if isinstance(axis.parts[0], int) else [parts]
                for number, of_units in enumerate(apart):
                    at = dim + place - (len(apart) > 1)
                    yield f"{name} {number} {axis.role} {part}", part, of_units.movedim(at, 0).flatten(1)


def closest(units: Tensor, sizes: Tensor) -> float:
    """The least distance of two units over the sum of their sizes.

    Args:
        units: (n, entries).
        sizes: (n,), not negative.

    Returns:
        The least ratio; infinite for one unit. Pairs of size 0, such as dead units that learn nothing, are left out.
    """
    distances = torch.cdist(units, units, compute_mode="donot_use_mm_for_euclid_dist")
    together = sizes[:, None] + sizes[None]
    return float((distances / together).where(together > 0, torch.inf).fill_diagonal_(torch.inf).min())


def grown_groups(base: Architecture, target: Architecture) -> set[str]:
    """The channel groups that are larger or new in the larger network."""
    old, new = base.table(SHAPE).groups, target.table(SHAPE).groups
    return {name for name, group in new.items() if name not in old or group.size != old[name].size}


def parting(
    cell: Cell, base: nn.Module | None = None, optimiser: type[torch.optim.Optimizer] = torch.optim.SGD, **options: Any
) -> dict[str, float]:
    """Train for 50 steps and measure how far the units of every group that has grown become different.

    Two units c and d with weights w, which have moved by m, differ by |w_c - w_d| / (|m_c| + |m_d|). It is 0 for twins
    that never part, and at most 1 for units that were equal.

    Args:
        cell: an operator on a network.
        base: the small network; that of the cell unless given.
        optimiser: a class of torch.optim.
        **options: of the optimiser; for SGD a learning rate of 0.05 and a momentum of 0.9 unless given.

    Returns:
        For each matrix and group the share of the pair that differs least.
    """
    base = cell.base() if base is None else base
    large, target = cell.expand(base), cell.target().architecture
    grown, table = grown_groups(cell.architecture, target), target.table(SHAPE)
    before = {label: units.clone() for label, _, units in units_of(table, dict(large.named_parameters()))}
    for _ in train(large, optimiser, 50, **(options or {"lr": 0.05, "momentum": 0.9})):
        pass
    return {
        label: closest(units, (units - before[label]).norm(dim=1))
        for label, group, units in units_of(table, dict(large.named_parameters()))
        if group in grown
    }


def wild_initialisation(patch: pytest.MonkeyPatch, draw: int = 0) -> None:
    """Make every family build networks with weights, biases and running statistics of order one, none of them zero.

    With the families' own initialisation, an operator that forgets to set a bias to zero would pass, since it is zero
    already.

    Args:
        patch: undoes it.
        draw: another number changes the fresh weights, but not the operator's own draws.
    """
    for family in FAMILIES:

        def wild(architecture: Architecture, shape: InputShape, build: Any = MODELS[family].build) -> nn.Module:
            torch.rand(draw)
            return randomised(build(architecture, shape))

        patch.setattr(MODELS[family], "build", wild)


def assert_the_function_is_kept(small: nn.Module, large: nn.Module, *, train: bool = True) -> None:
    """Check that two networks in float64 have the same logits.

    Args:
        small: a network for images of `SHAPE`.
        large: another one.
        train: whether also in training mode, and after the running statistics have moved.
    """
    assert difference(small, large) <= EXACTLY, "in evaluation mode"
    if train:
        assert difference(small, large, train=True) <= EXACTLY, "in training mode"
        # The batch has changed all running statistics: those of copies must have changed equally.
        assert difference(small, large) <= EXACTLY, "in evaluation mode, after a batch in training mode"
