"""Permutations of the units of one layer, and the network that lies on the way to its permuted self.

A permutation p of a channel group moves the rows of the incoming weights, their biases and norms, and the columns of
the outgoing weights together: unit i of the permuted network P theta is the old unit p[i], and its function is the old
one. Which axes these are, the axis table says (`mmbench.models.table`).

A step of the chain (Malviya et al., 2025, algorithm 1) draws pairs of two different units, each pair independently of
the others, and swaps one pair after the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from mmbench.errors import UndefinedError
from mmbench.models.copies import copied
from mmbench.models.reading import architecture_of
from mmbench.models.table import Axis, Table

Walk = Literal["chain", "independent"]
Pairs = int | Literal["log2", "all"]
LEAST = 4
"""Units that a layer must have: below, a step of log2(l) pairs reaches almost every permutation."""


def table_of(model: nn.Module) -> Table:
    """The axis table of a network; hooks, which do not change its tensors, are ignored."""
    if any(module._forward_hooks or module._forward_pre_hooks for module in model.modules()):
        model = copied(model)
        for module in model.modules():
            module._forward_hooks.clear()
            module._forward_pre_hooks.clear()
    architecture, shape = architecture_of(model)
    return architecture.table(shape)


def layers(table: Table) -> list[str]:
    """The channel groups that can be taken for a layer, in the order of the forward pass.

    Left out are groups of a stream that a LayerNorm couples and the heads of an attention (the paper, too, permutes the
    feed-forward layer of a BERT, not its embedding).

    Returns:
        Names of groups.
    """
    axes = [(name, axis) for name, tensor in table.tensors.items() for axis in tensor]
    order = dict.fromkeys(group for _, axis in axes if axis.role == "out" for group in axis.groups)
    tangled = {group for _, axis in axes for group in axis.groups if axis.groups != [group] or axis.parts[0] != group}
    return [group for group in order if group not in tangled and table.groups[group].coupled_by is None]


def choose(table: Table, layer: str, base: Table | None = None) -> list[str]:
    """The channel groups that `layer` names.

    Args:
        table: of the network.
        layer: `first` for the first of `layers` with at least 4 units, `inner` for the first of them that one weight
            writes and one weight reads (as inside a residual block), `each` for all of them, or a group's name.
        base: of the network before its expansion; its `first` or `inner` layer is taken if the network has it, too.

    Returns:
        Names of groups: one, unless `layer` is `each`.

    Raises:
        UndefinedError: there is no such group, or it has fewer than 4 units.
    """
    if base is not None and layer in ("first", "inner"):
        (wanted,) = choose(base, layer)
        layer = wanted if wanted in table.groups else layer
    if layer not in ("first", "inner", "each"):
        if layer not in table.groups:
            raise UndefinedError(
                f"metric.layer = {layer}: the network has no such channel group; it has {', '.join(table.groups)}, and "
                "first, inner and each choose among them"
            )
        if (width := table.groups[layer].size) < LEAST:
            raise UndefinedError(
                f"metric.layer = {layer} has {width} units; the metric permutes a layer of at least {LEAST}"
            )
        return [layer]
    known = [name for name in layers(table) if layer != "inner" or len(weights_of(table, name)) == 2]
    wide = [name for name in known if table.groups[name].size >= LEAST]
    if not wide:
        found = ", ".join(f"{name} of {table.groups[name].size}" for name in known) or "none"
        raise UndefinedError(
            f"metric.layer = {layer} needs a layer of at least {LEAST} units; the layers that can be permuted: {found}"
        )
    return wide if layer == "each" else wide[:1]


def weights_of(table: Table, group: str) -> list[tuple[str, str]]:
    """The weights (not biases and norms) with an axis of the group: (`out` or `in`, name), writers first."""
    found = [
        (axis.role, name)
        for name, axes in table.tensors.items()
        for axis in axes
        if len(axes) > 1 and group in axis.groups
    ]
    return sorted(found, reverse=True)


def orders(size: int, steps: int, walk: Walk, pairs: Pairs, generator: torch.Generator) -> Tensor:
    """Permutations of the units of a layer, one per step; fewer steps give the start of the same list.

    Args:
        size: l, units of the layer.
        steps: permutations.
        walk: `chain` makes each from the one before, `independent` each from the identity.
        pairs: swapped in a step; `log2` is ceil(log2 l), `all` a whole random permutation.
        generator: of the draws, on the CPU.

    Returns:
        (steps, size) indices; row s is the permutation p after s + 1 steps, unit i being the old unit p[i].
    """
    swaps = math.ceil(math.log2(size)) if pairs == "log2" else pairs
    rows, order = [], torch.arange(size)
    for _ in range(steps):
        order = torch.arange(size) if walk == "independent" else order.clone()
        if swaps == "all":
            order = order[torch.randperm(size, generator=generator)]
        else:
            first = torch.randint(size, (swaps,), generator=generator)
            second = (first + torch.randint(1, size, (swaps,), generator=generator)) % size  # never the same unit
            for i, j in zip(first.tolist(), second.tolist(), strict=True):
                order[[i, j]] = order[[j, i]]
        rows.append(order)
    return torch.stack(rows) if rows else torch.empty(0, size, dtype=torch.long)


def axes_of(table: Table, name: str) -> tuple[Axis, ...]:
    """The axes of a tensor; a bias that folding has added, which the table does not know, has its weight's rows."""
    if name not in table.tensors and name.endswith(".bias"):
        return table.tensors[f"{name.removesuffix('bias')}weight"][:1]
    return table.tensors.get(name, ())


def towards(model: nn.Module, table: Table, group: str, order: Tensor, alpha: float) -> dict[str, Tensor]:
    """The tensors of (1 - alpha) theta + alpha P theta that differ from theta's, running statistics included.

    Args:
        model: theta.
        table: its axis table.
        group: whose channels P permutes.
        order: (l,) the permutation.
        alpha: 0 is theta, 1 is P theta.

    Returns:
        By name in the state dict; for `torch.func.functional_call`.
    """
    moved = {}
    for name, tensor in _tensors(model):
        other = tensor
        axes = axes_of(table, name)
        for dim, axis in enumerate(axes):
            if group in axis.groups:
                sizes = [table.groups[part].size if isinstance(part, str) else part for part in axis.parts]
                parts = other.unflatten(dim, sizes)
                for place, part in enumerate(axis.parts):
                    if part == group:
                        parts = parts.index_select(dim + place, order.to(tensor.device))
                other = parts.flatten(dim, dim + len(sizes) - 1)
        if other is not tensor:
            moved[name] = torch.lerp(tensor, other, alpha)
    return moved


def clones(model: nn.Module, table: Table, group: str) -> int:
    """The number of units that have a clone: another unit with the same incoming weights, bias and norms.

    Swaps among clones change nothing, so their barriers are zero.

    Args:
        model: the network.
        table: its axis table.
        group: of the units.

    Returns:
        From 0 to the width of the group, never 1.
    """
    size, incoming = table.groups[group].size, []
    for name, tensor in _tensors(model):
        for dim, axis in enumerate(axes_of(table, name)):
            if axis.role == "out" and axis.groups == [group]:
                incoming.append(tensor.movedim(dim, 0).reshape(size, -1).double().cpu())
    _, counts = torch.unique(torch.cat(incoming, 1), dim=0, return_counts=True)
    return int(counts[counts > 1].sum())


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and floating-point buffers, without a graph."""
    return ((name, tensor.detach()) for name, tensor in model.state_dict().items() if tensor.is_floating_point())
