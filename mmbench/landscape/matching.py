"""Weight matching: the order of a network's channels in which its weights are closest to those of another network.

Git Re-Basin (Ainsworth, Hayase and Srinivasa, 2023, arXiv:2209.04836): over one map m_g per channel group g, minimise

    1/2 sum over parameters W of |W_A - W_B[m]|^2,

where W_B[m] is B's tensor with the channels m_g along every axis of the group g. If both networks are equally wide, the
maps are permutations, |W_B[m]| is constant, and this is the published objective: maximise the sum of <W_A, W_B[m]>. If
B is wider, the maps send A's channels one to one into B's. (Inner products alone would then prefer large channels to
equal ones.) The distance is 0 if B contains A.

The groups are those of the axis table, and each of them is a symmetry. Pixels, patches, kernel positions and classes
keep their order; the channels of a residual stream under LayerNorm may be permuted. A group has one map for all its
axes: a ViT's `head_dim` is shared by all heads and blocks, and by queries, keys and values. (Separate orders per head,
and for queries and keys versus values, would be a larger symmetry, which is not searched.) Running statistics are
permuted too, so that the function stays, but they do not count in the distance: they have the scale of activations.

Coordinate ascent ends in a local optimum. If every tensor of a group also has an axis of another group, as along a
residual stream, the unmatched group hides the right order. The first start therefore ignores the order of all other
groups by sorting their axes. (By the rearrangement inequality, <sort a, sort b> is the largest <a, b[m]> over all
orders of a row.)
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from mmbench.errors import ScoreError, UndefinedError
from mmbench.models.base import Architecture
from mmbench.models.copies import copied
from mmbench.models.reading import architecture_of
from mmbench.models.table import Part, Table

Maps = dict[str, Tensor]

GAIN = 1e-12
"""Relative gain below which a step counts as rounding error."""


def match(reference: nn.Module, model: nn.Module, generator: torch.Generator, restarts: int = 0) -> Maps:
    """For each channel of `reference`, by group, the matching channel of `model`.

    Coordinate ascent: groups in random order, each step a linear assignment, until no group gains. It starts from
    sorted rows (see above), from the current order and from `restarts` random maps, and keeps the closest result, so
    the distance never exceeds that of the current order, and never grows with the number of restarts.

    A pass over all groups takes n_A N multiply-adds per tensor of N weights of B and axis of n_A channels of A, and at
    most n_A^2 n_B per assignment, all on the CPU. It holds both networks in float64 and a copy of one tensor.

    Args:
        reference: A, a network of one of the families in `mmbench.models`.
        model: B, of the same family and depth; no group is narrower than A's.
        generator: of the orders and the random starts, on the CPU.
        restarts: random starts.

    Returns:
        Group name -> (A's channels,) indices among B's channels, none of them twice.

    Raises:
        UndefinedError: the networks differ in more than their widths, or B is narrower.
        ScoreError: weights are not finite.
    """
    pair = Pair(reference, model)
    ends = []
    for number in range(2 + restarts):  # one after the other, so that fewer restarts draw the same as the first of more
        maps = pair.sorted_start() if number == 0 else pair.start(generator if number > 1 else None)
        for _ in pair.ascend(maps, generator):
            pass
        ends.append(maps)
    return max(ends, key=pair.value)


def permuted(model: nn.Module, permutations: Maps) -> nn.Module:
    """A copy of `model` with the same function; channel i of each group is the old channel `permutations[group][i]`.

    Args:
        model: a network of one of the families in `mmbench.models`; it is not changed.
        permutations: by group, all of its channels in a new order; a group that is not named keeps its order.

    Returns:
        The copy.

    Raises:
        UndefinedError: no group has this name, or the order is not a permutation of its channels.
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
        With the maps of `match`, tensors of the reference's shapes. Tensors without a mapped group are the model's own.

    Raises:
        UndefinedError: no group has this name, or a channel is out of range.
    """
    return _gathered(model, _read(model)[1], maps)


def _gathered(model: nn.Module, table: Table, maps: Maps) -> dict[str, Tensor]:
    for name, chosen in maps.items():
        if name not in table.groups:
            raise UndefinedError(f"the network has no channel group {name!r}; it has {', '.join(table.groups)}")
        last = table.groups[name].size - 1
        if len(chosen) and not 0 <= int(chosen.min()) <= int(chosen.max()) <= last:
            raise UndefinedError(f"the group {name!r} has channels 0 to {last}; the map has {chosen.tolist()}")
    state = {}
    for name, tensor in model.state_dict().items():
        tensor = _chosen(_by_part(tensor, table, name), _parts(table, name), maps)
        for dim, axis in enumerate(table.tensors[name]):
            tensor = tensor.flatten(dim, dim + len(axis.parts) - 1)
        state[name] = tensor
    return state


class Pair:
    """Two networks to match, A and B: their parameters in float64, with one tensor axis per part of a table axis."""

    def __init__(self, reference: nn.Module, model: nn.Module) -> None:
        (family, ours), (model_family, theirs) = _read(reference), _read(model)
        _require_comparable(family, model_family, ours, theirs)
        self.sizes = {name: (group.size, theirs.groups[name].size) for name, group in ours.groups.items()}
        a, b = _weights(reference, ours), _weights(model, theirs)
        self.tensors = _united([(a[name], b[name], _parts(ours, name)) for name in a])
        self.on = {group: [t for t in self.tensors if group in t[2]] for group in self.sizes}
        self.beside = {group: {p for *_, parts in tensors for p in parts if isinstance(p, str)} - {group}
                       for group, tensors in self.on.items()}  # fmt: skip
        self.twice = {
            group for group, tensors in self.on.items() if any(parts.count(group) > 1 for *_, parts in tensors)
        }
        self.wider = any(a != b for a, b in self.sizes.values())
        self.least = GAIN * sum(float(tensor.square().sum()) for tensor in [*a.values(), *b.values()])

    def start(self, generator: torch.Generator | None = None) -> Maps:
        """The first channels of B in their order or, with a generator, random ones."""
        if generator is None:
            return {group: torch.arange(count) for group, (count, _) in self.sizes.items()}
        return {group: torch.randperm(b, generator=generator)[:a] for group, (a, b) in self.sizes.items()}

    def sorted_start(self) -> Maps:
        """The best assignment of each group by itself, with rows sorted along all other groups."""
        return {group: _assigned(self.gains(group, None)) for group in self.sizes}

    def gains(self, group: str, maps: Maps | None) -> Tensor:
        """<W_A[i], W_B[j]> - |W_B[j]|^2 / 2 over the tensors of a group, for its channels i of A and j of B.

        If a group has two axes in a tensor, each is compared with the other mapped as before, which gives the slope of
        the objective.

        Args:
            group: whose channels are compared.
            maps: of the other groups; None: their channels are sorted.

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
                if self.wider or maps is None:  # constant over permutations
                    total.sub_(theirs.square().sum(1), alpha=0.5)
        return total

    def value(self, maps: Maps, group: str | None = None) -> float:
        """The objective, -|W_A - W_B[m]|^2 / 2, over the tensors of a group, or all."""
        tensors = self.tensors if group is None else self.on[group]
        return -0.5 * sum(float((a - _chosen(b, parts, maps)).square_().sum()) for a, b, parts in tensors)

    def ascend(self, maps: Maps, generator: torch.Generator) -> Iterator[float]:
        """Improve `maps` in place; yields the objective at the start and after every improvement."""
        value, gained, groups = self.value(maps), True, list(self.sizes)
        stale = set(groups)  # groups to revisit: a group that shares a tensor with them has changed
        yield value
        while gained:
            gained = False
            for i in torch.randperm(len(groups), generator=generator).tolist():
                if groups[i] not in stale:
                    continue
                group = groups[i]
                stale.discard(group)
                gains = self.gains(group, maps)
                assigned = _assigned(gains)
                if group in self.twice:  # `gains` is only a slope
                    gain = self.value({**maps, group: assigned}, group) - self.value(maps, group)
                else:
                    rows = torch.arange(len(assigned))
                    gain = float((gains[rows, assigned] - gains[rows, maps[group]]).sum())
                if gain > self.least:  # a group with two axes in one tensor may lose instead
                    maps[group], gained = assigned, True
                    stale |= self.beside[group] | ({group} & self.twice)
                    value += gain
                    yield value


def _united(tensors: list[tuple[Tensor, Tensor, list[Part]]]) -> list[tuple[Tensor, Tensor, list[Part]]]:
    """The same tensors, with those that have only one group's channels (biases, norms) joined in a matrix per group."""
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
    """A column for each row, each used at most once, with the largest sum."""
    from scipy.optimize import linear_sum_assignment

    return torch.from_numpy(linear_sum_assignment(gains.numpy(), maximize=True)[1])


def _sorted(tensor: Tensor, parts: list[Part], dim: int) -> Tensor:
    """(channels along `dim`, channels of all other groups, the rest), sorted along the second axis."""
    others = [d for d, part in enumerate(parts) if isinstance(part, str) and d != dim]
    rows = tensor.movedim((dim, *others), tuple(range(1 + len(others))))
    return rows.reshape(len(rows), math.prod(tensor.shape[d] for d in others), -1).sort(1).values


def _chosen(tensor: Tensor, parts: list[Part], maps: Maps, without: int | None = None) -> Tensor:
    """The mapped channels along every axis except `without`."""
    for dim, part in enumerate(parts):
        if isinstance(part, str) and part in maps and dim != without:
            tensor = tensor.index_select(dim, maps[part].to(tensor.device))
    return tensor


def _parts(table: Table, name: str) -> list[Part]:
    return [part for axis in table.tensors[name] for part in axis.parts]


def _by_part(tensor: Tensor, table: Table, name: str) -> Tensor:
    """The tensor with one axis per part."""
    return tensor.reshape([table.groups[p].size if isinstance(p, str) else p for p in _parts(table, name)])


def _read(model: nn.Module) -> tuple[Architecture, Table]:
    architecture, shape = architecture_of(model)
    return architecture, architecture.table(shape)


def _weights(model: nn.Module, table: Table) -> dict[str, Tensor]:
    """The parameters that have channels."""
    weights = {}
    for name, tensor in model.state_dict().items():
        if name not in table.buffers and any(axis.groups for axis in table.tensors[name]):
            if not tensor.isfinite().all():
                raise ScoreError(f"the network has diverged: tensor {name!r} holds values that are not finite numbers")
            weights[name] = _by_part(tensor.cpu().double(), table, name)
    return weights


def _require_comparable(family: Architecture, model_family: Architecture, ours: Table, theirs: Table) -> None:
    """`UndefinedError` unless the networks differ only in widths, and no group of the second is narrower."""
    if family.name != model_family.name:
        raise UndefinedError(
            f"the reference is of family {family.name!r}, the model of family {model_family.name!r}; "
            "matching needs two networks of the same family"
        )
    for name in [*ours.tensors, *theirs.tensors]:
        if ours.tensors.get(name) != theirs.tensors.get(name):
            shapes = [table.shape(name) if name in table.tensors else "missing" for table in (ours, theirs)]
            raise UndefinedError(
                f"tensor {name!r} is {shapes[0]} in the reference and {shapes[1]} in the model; matching needs "
                "networks that differ only in width, not in depth, kernels, patches, pixels or classes"
            )
    for name, group in ours.groups.items():
        if theirs.groups[name].size < group.size:
            raise UndefinedError(
                f"the group {name!r} has {group.size} channels in the reference and {theirs.groups[name].size} in the "
                "model; matching needs at least as many: give the narrower network as the reference"
            )
