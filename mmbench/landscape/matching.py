"""Which channels of one network are which of another: weight matching (Git Re-Basin, Ainsworth et al., 2023).

For every channel group g of the axis table an index map m_g, from the reference's channels to distinct channels of the
other network, is sought that minimises

    sum over parameters of || W_reference - W[m, m, ...] ||^2,

W gathered along each of its axes by the map of that axis' group. Between networks of one architecture the maps are
permutations, a permuted network has the same function, and the inner product of the weights is maximised. A smaller
reference is matched into a larger network; there the inner product alone would look for long rows, not like ones. All
other maps given, the best one of a group is a linear assignment (Kuhn, 1955). Groups are visited in random order until
no visit gains; the best of several starts counts.

The trap is the beginning: with all maps but one wrong, the assignment of that one is about noise, and a residual stream
that meets dozens of unmatched groups settles there. So a start matches one group after the other, counting only what
is already comparable: biases, norms and weights whose other axes are fixed (pixels, classes) or matched.

Running statistics of batch norms do not count: they are no weights, and their scale would outweigh these. They are
moved along. One visit costs a product of matrices (n, m / n) and (m / n, n) for each tensor of m entries with the
group, and the assignment O(n^3).
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, NamedTuple

import torch

from mmbench.errors import UndefinedError
from mmbench.models.reading import architecture_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from torch import Tensor, nn

    from mmbench.models.table import Part, Table

    Maps = dict[str, Tensor]

GAIN = 1e-9
"""Rise of the objective below which a visit gains nothing, relative to the reference's squared weights."""


def match(reference: nn.Module, model: nn.Module, generator: torch.Generator, starts: int = 3) -> Maps:
    """For every channel group, which channel of `model` is the one of `reference`: indices (channels of reference,).

    Args:
        reference: as deep as `model`, of the same family, and nowhere wider.
        model: whose channels are looked up.
        generator: of the order in which groups are visited.
        starts: how many orders are tried.

    Raises:
        UndefinedError: the networks are of different families or depths, or the reference is the wider one.
    """
    pairs, sizes = _pairs(reference, model)
    found: list[tuple[float, Maps]] = []
    least = GAIN * sum(float(ours.tensor.square().sum()) for ours, _ in pairs)
    for _ in range(starts):
        maps = _start(pairs, sizes, generator)
        best, gained = objective(pairs, maps), True
        while gained:
            gained = False
            for group in _shuffled(sizes, generator):
                trial = {**maps, group: _assigned(_agreement(pairs, maps, group))}
                value = objective(pairs, trial)
                if value > best + least:
                    maps, best, gained = trial, value, True
        found.append((best, maps))
    return max(found, key=lambda start: start[0])[1]


def permuted(model: nn.Module, maps: Mapping[str, Tensor]) -> nn.Module:
    """A copy whose channel c of every group is channel maps[group][c] of `model`; permutations keep the function."""
    twin = copy.deepcopy(model)
    twin.load_state_dict(gathered(model, maps))
    return twin


def gathered(model: nn.Module, maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of `model` with the channels that the maps name, in their order; groups without a map stay."""
    table, state = _table(model), model.state_dict()
    return {
        name: _gather(_view(tensor, table, name), maps).reshape(
            [_length(axis.parts, table, maps) for axis in table.tensors[name]]
        )
        if name in table.tensors
        else tensor
        for name, tensor in state.items()
    }


def objective(pairs: Collection[tuple[_View, _View]], maps: Mapping[str, Tensor]) -> float:
    """What the maps are to maximise, in float64: minus half of the squared distance."""
    return -0.5 * sum(float((ours.tensor - _gather(theirs, maps)).square().sum()) for ours, theirs in pairs)


class _View(NamedTuple):
    """A tensor with one dimension per part of its axes: the rows of a fused q, k, v are (3, heads, head_dim)."""

    tensor: Tensor
    parts: tuple[Part, ...]

    @property
    def groups(self) -> set[str]:
        return {part for part in self.parts if isinstance(part, str)}


def _view(tensor: Tensor, table: Table, name: str) -> _View:
    parts = tuple(part for axis in table.tensors[name] for part in axis.parts)
    return _View(tensor.reshape([table.groups[p].size if isinstance(p, str) else p for p in parts]), parts)


def _gather(view: _View, maps: Mapping[str, Tensor], but: int = -1) -> Tensor:
    """The tensor with every dimension but one gathered by the map of its group."""
    tensor = view.tensor
    for dim, part in enumerate(view.parts):
        if dim != but and isinstance(part, str) and part in maps:
            tensor = tensor.index_select(dim, maps[part].to(tensor.device))
    return tensor


def _rows(tensor: Tensor, dim: int) -> Tensor:
    """(size of the dimension, all the rest)."""
    return tensor.movedim(dim, 0).reshape(tensor.shape[dim], -1)


def _length(parts: tuple[Part, ...], table: Table, maps: Mapping[str, Tensor]) -> int:
    length = 1
    for part in parts:
        length *= part if isinstance(part, int) else len(maps[part]) if part in maps else table.groups[part].size
    return length


def _agreement(pairs: Collection[tuple[_View, _View]], maps: Mapping[str, Tensor], group: str) -> Tensor:
    """(channels of reference, channels of model): how much the objective has from taking the one for the other.

    <a_i, b_j> - |b_j|^2 / 2 over rows a_i and b_j; |a_i|^2 is the same for all j.
    """
    total: Tensor | None = None
    for ours, theirs in pairs:
        for dim, part in enumerate(ours.parts):
            if part == group:
                rows = _rows(_gather(theirs, maps, but=dim), dim)
                share = _rows(ours.tensor, dim) @ rows.T - rows.square().sum(1) / 2
                total = share if total is None else total.add_(share)
    assert total is not None
    return total


def _start(pairs: list[tuple[_View, _View]], sizes: Mapping[str, tuple[int, int]], generator: torch.Generator) -> Maps:
    """Maps found one after the other, each from the tensors whose other groups are matched or that have no others.

    The group with the most entries to go by comes first; where none has any, all tensors of a group count.
    """
    maps: Maps = {}
    waiting = _shuffled(sizes, generator)
    while waiting:
        known = {group: [p for p in pairs if p[0].groups - maps.keys() == {group}] for group in waiting}
        group = max(waiting, key=lambda name: sum(ours.tensor.numel() for ours, _ in known[name]) / sizes[name][0])
        if known[group]:
            maps[group] = _assigned(_agreement(known[group], maps, group))
        else:
            # Nothing to go by but order: lengths of rows, sorted on both sides, do not depend on other groups.
            maps[group] = _by_length([p for p in pairs if group in p[0].groups], group)
        waiting.remove(group)
    return maps


def _by_length(pairs: list[tuple[_View, _View]], group: str) -> Tensor:
    ours, theirs = (
        sum(
            _rows(view.tensor, dim).square().sum(1)
            for view in views
            for dim, part in enumerate(view.parts)
            if part == group
        )
        for views in zip(*pairs, strict=True)
    )
    assert isinstance(ours, torch.Tensor)
    assert isinstance(theirs, torch.Tensor)
    return _assigned(-(ours[:, None] - theirs).abs())


def _assigned(agreement: Tensor) -> Tensor:
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(agreement.cpu().numpy(), maximize=True)
    assert (rows == range(len(agreement))).all()
    return torch.as_tensor(columns)


def _shuffled(sizes: Mapping[str, tuple[int, int]], generator: torch.Generator) -> list[str]:
    names = sorted(sizes)
    return [names[i] for i in torch.randperm(len(names), generator=generator)]


def _table(model: nn.Module) -> Table:
    architecture, shape = architecture_of(model)
    return architecture.table(shape)


def _pairs(reference: nn.Module, model: nn.Module) -> tuple[list[tuple[_View, _View]], dict[str, tuple[int, int]]]:
    """The parameters of both networks as float64 views, and the channels that each has in every group."""
    (ours, _), (theirs, _) = architecture_of(reference), architecture_of(model)
    old, new = _table(reference), _table(model)
    if ours.name != theirs.name or old.tensors.keys() != new.tensors.keys():
        raise UndefinedError(
            f"only networks of one family and depth can be matched: got {ours.name} of {len(old.tensors)} tensors "
            f"and {theirs.name} of {len(new.tensors)}"
        )
    sizes = {name: (group.size, new.groups[name].size) for name, group in old.groups.items()}
    for name, (less, more) in sizes.items():
        if less > more:
            raise UndefinedError(
                f"the reference has {less} channels in {name!r} and the other network {more}: give the smaller first"
            )
    weights = [dict(network.named_parameters()) for network in (reference, model)]
    pairs = []
    for name in old.tensors:
        if name not in old.buffers:
            views = [_view(w[name].detach().double(), t, name) for w, t in zip(weights, (old, new), strict=True)]
            fixed = [tuple(p for p in view.parts if isinstance(p, int)) for view in views]
            if fixed[0] != fixed[1]:
                raise UndefinedError(
                    f"{name!r} has fixed sizes {fixed[0]} in the reference and {fixed[1]} in the other"
                )
            pairs.append((views[0], views[1]))
    return pairs, sizes
