"""Weight matching: the order of a network's channels in which its weights are nearest to those of another network.

Git Re-Basin (Ainsworth, Hayase and Srinivasa, 2023, arXiv:2209.04836): over one map m_g per channel group g, minimise

    1/2 sum over parameters W of |W_A - W_B[m]|^2,

W_B[m] being B's tensor with the channels m_g along every axis of the group g. Where both networks are equally wide the
maps are permutations, |W_B[m]| is constant, and the published objective is left: the largest sum of <W_A, W_B[m]>.
Where B is wider, the maps are one to one, A's channels into B's. (There inner products alone would prefer large
channels to equal ones.) The distance is 0 where B contains A.

The groups are those of the axis table, and every one of them is a symmetry: pixels, patches, taps and classes keep
their places; streams under a LayerNorm, which treats its channels alike, need not. A group is one index for all its
axes: a ViT's `head_dim` is common to all heads and blocks, to queries, keys and values. (Each head could have an order
of its own, for queries and keys another than for values: a larger symmetry, which is not searched.) Running statistics
are moved along, so that the function stays, but do not count: they have the scale of activations.

Coordinate ascent ends in a local optimum. Where all tensors of a group have another group on them, as along a residual
stream, the unmatched one hides the other. The first start looks through the orders of all others: it sorts their axes.
(By the rearrangement inequality <sort a, sort b> is the largest <a, b[m]> over all orders of a row.)
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from mmbench.errors import UndefinedError
from mmbench.models.base import Architecture
from mmbench.models.copies import copied
from mmbench.models.reading import architecture_of
from mmbench.models.table import Part, Table

Maps = dict[str, Tensor]

GAIN = 1e-12
"""Relative gain below which a step is taken to be rounding."""


def match(reference: nn.Module, model: nn.Module, generator: torch.Generator, restarts: int = 0) -> Maps:
    """For each channel of `reference`, by group, the channel of `model` that stands for it.

    Coordinate ascent: groups in random order, each step a linear assignment, until no group gains. It starts from
    sorted rows (see above), from the order as it is and from `restarts` random maps; the nearest end is kept, so that
    it is never farther than the order as it is.

    A pass over all groups takes n_A N multiply-adds per tensor of N weights of B and axis of n_A channels of A, and
    n_A^2 n_B at most per assignment, all on the CPU; it holds both networks in float64 and a copy of one tensor.

    Args:
        reference: A, a network of one of the families in `mmbench.models`.
        model: B, of the same family and depth, nowhere narrower.
        generator: of the orders and the random starts, on the CPU.
        restarts: random starts.

    Returns:
        Group name -> (A's channels,) indices among B's channels, none of them twice.

    Raises:
        UndefinedError: the networks differ in more than their widths, B is narrower, or weights are not finite.
    """
    pair = Pair(reference, model)
    starts = [pair.sorted_start(), pair.start(), *(pair.start(generator) for _ in range(restarts))]
    ends = [list(pair.ascend(maps, generator))[-1] for maps in starts]
    return starts[max(range(len(ends)), key=ends.__getitem__)]


def permuted(model: nn.Module, permutations: Maps) -> nn.Module:
    """A copy of `model` of the same function, channel i of each group being its channel `permutations[group][i]`.

    Raises:
        UndefinedError: no group has the name, or it has other channels than these.

    Args:
        model: a network of one of the families in `mmbench.models`; it stays as it is.
        permutations: by group, all of its channels in a new order; a group that is not named keeps its order.

    Returns:
        The copy.
    """
    _, table = _read(model)
    for name, order in permutations.items():
        size = table.groups[name].size if name in table.groups else len(order)
        if not torch.equal(order.cpu().sort().values, torch.arange(size)):
            raise UndefinedError(f"the group {name!r} needs a permutation of its {size} channels, not {order.tolist()}")
    changed = copied(model)
    changed.load_state_dict(_gathered(model, table, permutations))
    return changed


def gathered(model: nn.Module, maps: Maps) -> dict[str, Tensor]:
    """The state of `model` with the channels `maps[group]` of each group, in that order.

    Args:
        model: a network of one of the families in `mmbench.models`.
        maps: by group, channels of the model; a group that is not named stays whole.

    Returns:
        With the maps of `match`, tensors of the reference's shapes. Tensors in which nothing is chosen are the model's
        own.

    Raises:
        UndefinedError: no group has the name, or it has not all of the channels.
    """
    return _gathered(model, _read(model)[1], maps)


def _gathered(model: nn.Module, table: Table, maps: Maps) -> dict[str, Tensor]:
    for name, chosen in maps.items():
        if name not in table.groups:
            raise UndefinedError(f"the network has no channel group {name!r}; it has {', '.join(table.groups)}")
        last = table.groups[name].size - 1
        if len(chosen) and not 0 <= int(chosen.min()) <= int(chosen.max()) <= last:
            raise UndefinedError(f"the group {name!r} has the channels 0 to {last}, not all of {chosen.tolist()}")
    state = {}
    for name, tensor in model.state_dict().items():
        tensor = _chosen(_by_part(tensor, table, name), _parts(table, name), maps)
        for dim, axis in enumerate(table.tensors[name]):
            tensor = tensor.flatten(dim, dim + len(axis.parts) - 1)
        state[name] = tensor
    return state


class Pair:
    """Two networks to match, A and B: their parameters in float64, an axis for each part of an axis in the table."""

    def __init__(self, reference: nn.Module, model: nn.Module) -> None:
        (family, ours), (other, theirs) = _read(reference), _read(model)
        _refuse_others(family, other, ours, theirs)
        self.sizes = {name: (group.size, theirs.groups[name].size) for name, group in ours.groups.items()}
        a, b = _weights(reference, ours), _weights(model, theirs)
        self.tensors = _united([(a[name], b[name], _parts(ours, name)) for name in a])
        self.on = {group: [t for t in self.tensors if group in t[2]] for group in self.sizes}
        self.beside = {group: {p for *_, parts in found for p in parts if isinstance(p, str)} - {group}
                       for group, found in self.on.items()}  # fmt: skip
        self.twice = {group for group, found in self.on.items() if any(parts.count(group) > 1 for *_, parts in found)}
        self.wider = any(a != b for a, b in self.sizes.values())
        self.least = GAIN * sum(float(tensor.square().sum()) for tensor in [*a.values(), *b.values()])

    def start(self, generator: torch.Generator | None = None) -> Maps:
        """The first channels of B in their order or, with a generator, random ones."""
        if generator is None:
            return {group: torch.arange(count) for group, (count, _) in self.sizes.items()}
        return {group: torch.randperm(b, generator=generator)[:a] for group, (a, b) in self.sizes.items()}

    def sorted_start(self) -> Maps:
        """For each group by itself the best assignment of rows that are sorted along all other groups."""
        return {group: _assigned(self.gains(group, None)) for group in self.sizes}

    def gains(self, group: str, maps: Maps | None) -> Tensor:
        """<W_A[i], W_B[j]> - |W_B[j]|^2 / 2 over the tensors of a group, for its channels i of A and j of B.

        Where a group has two axes in a tensor, each is taken in turn with the other mapped as before: the slope of the
        objective.

        Args:
            group: whose channels are compared.
            maps: for the other groups; without maps, their channels are sorted.

        Returns:
            (A's channels, B's channels), float64.
        """
        total = torch.zeros(self.sizes[group], dtype=torch.float64)
        for a, b, parts in self.on[group]:
            for dim in (d for d, part in enumerate(parts) if part == group):
                if maps is None:
                    ours, theirs = _sorted(a, parts, dim), _sorted(b, parts, dim)
                    ours = ours[:, torch.arange(theirs.shape[1]) * ours.shape[1] // theirs.shape[1]]  # as long as B's
                else:
                    ours, theirs = a.movedim(dim, 0), _chosen(b, parts, maps, without=dim).movedim(dim, 0)
                ours, theirs = ours.reshape(len(ours), -1), theirs.reshape(len(theirs), -1)
                total.addmm_(ours, theirs.T)
                if self.wider or maps is None:  # of permutations all have the same sum
                    total.sub_(theirs.square().sum(1), alpha=0.5)
        return total

    def value(self, maps: Maps, group: str | None = None) -> float:
        """The objective, -|W_A - W_B[m]|^2 / 2, over the tensors of a group, or all."""
        tensors = self.tensors if group is None else self.on[group]
        return -0.5 * sum(float((a - _chosen(b, parts, maps)).square_().sum()) for a, b, parts in tensors)

    def ascend(self, maps: Maps, generator: torch.Generator) -> Iterator[float]:
        """Improve `maps` in place; the objective at the start and after every step that gains."""
        value, gained, groups = self.value(maps), True, list(self.sizes)
        stale = set(groups)  # not looked at since a group beside them, in a common tensor, was changed
        yield value
        while gained:
            gained = False
            for i in torch.randperm(len(groups), generator=generator).tolist():
                if groups[i] not in stale:
                    continue
                group = groups[i]
                stale.discard(group)
                gains = self.gains(group, maps)
                found = _assigned(gains)
                if group in self.twice:  # gains are but a slope
                    gain = self.value({**maps, group: found}, group) - self.value(maps, group)
                else:
                    rows = torch.arange(len(found))
                    gain = float((gains[rows, found] - gains[rows, maps[group]]).sum())
                if gain > self.least:  # never where a group's two axes in one tensor pull apart
                    maps[group], gained = found, True
                    stale |= self.beside[group] | ({group} & self.twice)
                    value += gain
                    yield value


def _united(tensors: list[tuple[Tensor, Tensor, list[Part]]]) -> list[tuple[Tensor, Tensor, list[Part]]]:
    """The same, with all that has the channels of one group alone (biases, norms) in one matrix for each group."""
    kept: list[tuple[Tensor, Tensor, list[Part]]] = []
    alone: defaultdict[str, list[tuple[Tensor, ...]]] = defaultdict(list)
    for a, b, parts in tensors:
        (dim, group), *others = [(d, part) for d, part in enumerate(parts) if isinstance(part, str)]
        if others:
            kept.append((a, b, parts))
        else:
            alone[group].append(tuple(t.movedim(dim, 0).reshape(t.shape[dim], -1) for t in (a, b)))
    for group, pairs in alone.items():
        a, b = (torch.cat(same, dim=1) for same in zip(*pairs, strict=True))
        kept.append((a, b, [group, a.shape[1]]))
    return kept


def _assigned(gains: Tensor) -> Tensor:
    """For each row its column, none of them twice, with the largest sum."""
    from scipy.optimize import linear_sum_assignment

    return torch.from_numpy(linear_sum_assignment(gains.numpy(), maximize=True)[1])


def _sorted(tensor: Tensor, parts: list[Part], dim: int) -> Tensor:
    """(channels along `dim`, channels of all other groups, the rest), sorted along the second axis."""
    others = [d for d, part in enumerate(parts) if isinstance(part, str) and d != dim]
    rows = tensor.movedim((dim, *others), tuple(range(1 + len(others))))
    return rows.reshape(len(rows), math.prod(tensor.shape[d] for d in others), -1).sort(1).values


def _chosen(tensor: Tensor, parts: list[Part], maps: Maps, without: int | None = None) -> Tensor:
    """The channels of the maps along every axis but `without`."""
    for dim, part in enumerate(parts):
        if isinstance(part, str) and part in maps and dim != without:
            tensor = tensor.index_select(dim, maps[part].to(tensor.device))
    return tensor


def _parts(table: Table, name: str) -> list[Part]:
    return [part for axis in table.tensors[name] for part in axis.parts]


def _by_part(tensor: Tensor, table: Table, name: str) -> Tensor:
    """An axis for each part."""
    return tensor.reshape([table.groups[p].size if isinstance(p, str) else p for p in _parts(table, name)])


def _read(model: nn.Module) -> tuple[Architecture, Table]:
    architecture, shape = architecture_of(model)
    return architecture, architecture.table(shape)


def _weights(model: nn.Module, table: Table) -> dict[str, Tensor]:
    """The parameters that have channels."""
    found = {}
    for name, tensor in model.state_dict().items():
        if name not in table.buffers and any(axis.groups for axis in table.tensors[name]):
            if not tensor.isfinite().all():
                raise UndefinedError(f"tensor {name!r} is not finite everywhere; matching needs weights that are")
            found[name] = _by_part(tensor.cpu().double(), table, name)
    return found


def _refuse_others(family: Architecture, other: Architecture, ours: Table, theirs: Table) -> None:
    """`UndefinedError` unless the networks differ in their widths alone, and the second is nowhere narrower."""
    if family.name != other.name:
        raise UndefinedError(
            f"the reference is of the family {family.name!r}, the model of {other.name!r}; matching needs one family"
        )
    for name in [*ours.tensors, *theirs.tensors]:
        if ours.tensors.get(name) != theirs.tensors.get(name):
            found = [table.shape(name) if name in table.tensors else "missing" for table in (ours, theirs)]
            raise UndefinedError(
                f"tensor {name!r} is {found[0]} in the reference and {found[1]} in the model; matching needs networks "
                "that differ in their channels alone, not in depth, kernels, patches, pixels or classes"
            )
    for name, group in ours.groups.items():
        if theirs.groups[name].size < group.size:
            raise UndefinedError(
                f"the group {name!r} has {group.size} channels in the reference and {theirs.groups[name].size} in the "
                "model; matching needs at least as many: give the narrower network as the reference"
            )
