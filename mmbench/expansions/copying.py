"""What all operators that copy channels share: index maps, and the split of outgoing weights.

An index map m: [C'] -> [C] gives for each channel of the larger network the channel of the small one that it copies;
its first C entries are the identity. Rows of a producer are copied, W'[c] = W[m(c)]. Columns of a consumer are split so
that the copies of a channel add up to it, sum over c in m^-1(i) of W'[:, c] = W[:, i]: the function is kept exactly.

Attention divides the dot product of queries and keys by the square root of the channels of a head: r copies of each
channel multiply it by r / sqrt(r), so queries are divided by sqrt(r).
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch

from mmbench.expansions.base import Filled, Growth
from mmbench.expansions.widening import Widening, entries
from mmbench.models.table import Axis, Group

Maps = dict[str, torch.Tensor]

Split = Literal["projection", "unequal", "paired", "equal"]
CHUNK = 2**18
"""Weights that are split at a time."""


class Copying(Widening):
    """Base of the operators whose new channels are copies of old ones."""

    copies = True

    def index_map(self, old: Group, new: Group, generator: torch.Generator) -> torch.Tensor:
        """Choose which channel each channel of the larger group copies; by default shuffled rounds of all.

        Args:
            old: the small network's group, of C channels.
            new: the larger network's, of C'.
            generator: of the random draws.

        Returns:
            (C',) indices of old channels; the first C are 0..C-1.
        """
        return shuffled(old, new, generator)

    def share(self, tensor: torch.Tensor, fresh: torch.Tensor, index: torch.Tensor, generator: torch.Generator) -> None:
        """Fill `fresh` so that the copies of a column add up to it; by default by projection.

        Args:
            tensor: (rows, old columns, ...), the small network's weights.
            fresh: (rows, new columns, ...), the larger network's initialisation; filled in place.
            index: (new columns,) the old column that each new one copies.
            generator: of the random draws.
        """
        split_columns("projection", tensor, fresh, index, generator)

    def fill(self, growth: Growth) -> Filled:
        """Copy rows, split columns."""
        old, new = growth.old, growth.new
        maps = {name: self.index_map(group, new.groups[name], growth.generator) for name, group in old.groups.items()}
        for name, fresh in growth.fresh.items():
            axes = new.tensors[name]
            tensor = self.rows(growth, name, maps)
            if tensor.shape != fresh.shape:  # the columns, always the second axis, have copies
                self.share(tensor, fresh, entries(axes[1], old, partial(_copied, maps)), growth.generator)
                tensor = fresh
            yield name, tensor

    def rows(self, growth: Growth, name: str, maps: Maps) -> torch.Tensor:
        """A tensor of the small network with its rows, the channels that it produces, copied.

        Args:
            growth: the networks.
            name: of the tensor.
            maps: per group the index map (C',).

        Returns:
            The tensor with the rows of the larger network and the columns of the small one.
        """
        return self.copied_rows(growth, name, maps, growth.small[name])

    def copied_rows(self, growth: Growth, name: str, maps: Maps, tensor: torch.Tensor) -> torch.Tensor:
        """Copy the rows of one tensor just as those of another.

        Args:
            growth: the networks.
            name: of the tensor that decides which rows are copied.
            maps: per group the index map (C',).
            tensor: of the shape of that tensor in the small network.

        Returns:
            `tensor` with the rows of the larger network.
        """
        for dim, axis in enumerate(growth.new.tensors[name]):
            if axis.role == "out" and growth.old.length(axis) != growth.new.length(axis):
                tensor = tensor.index_select(dim, entries(axis, growth.old, partial(_copied, maps)))
                if (factor := _query_factor(growth, axis)) != 1.0:
                    tensor[: len(tensor) // 3] *= factor
        return tensor


def _copied(maps: Maps, group: str) -> torch.Tensor:
    return maps[group]


def _query_factor(growth: Growth, axis: Axis) -> float:
    """The factor on queries, the first third of the rows, that keeps attention scores when heads get more channels."""
    factor = 1.0
    for group in axis.groups:
        if growth.new.groups[group].coupled_by == "attention":
            factor *= (growth.old.groups[group].size / growth.new.groups[group].size) ** 0.5
    return factor


def shuffled(old: Group, new: Group, generator: torch.Generator) -> torch.Tensor:
    """The identity, then rounds of all channels, each in a random order.

    The numbers of copies of two channels differ by at most one. With an integer factor they are equal, as a LayerNorm
    needs.

    Args:
        old: the small network's group, of C channels.
        new: the larger network's, of C'.
        generator: of the orders.

    Returns:
        (C',) indices of old channels.
    """
    rounds = -(-new.size // old.size)
    draws = [torch.randperm(old.size, generator=generator) for _ in range(rounds - 1)]
    return torch.cat([torch.arange(old.size), *draws])[: new.size]


def tiled(old: Group, new: Group) -> torch.Tensor:
    """The identity, repeated."""
    return torch.arange(new.size) % old.size


def split_columns(
    split: Split,
    tensor: torch.Tensor,
    fresh: torch.Tensor,
    index: torch.Tensor,
    generator: torch.Generator,
    snr_db: float = 10.0,
) -> None:
    """Share the columns of `tensor` among their copies; column c of the result copies column `index[c]`.

    Let channel i have r copies c. V is the larger network's initialisation (the initial `fresh`), with every row scaled
    to the root mean square of that row of W / r. (Without scaling, V can be so much larger than W / r that the
    rounding errors of its sum exceed the function's values, and a row of zeros would not stay zero.)

    * `equal`: W'[:, c] = W[:, i] / r;
    * `unequal`: W'[:, c] = a_c W[:, i], with random a_c that add up to one;
    * `paired`: W'[:, c] = W[:, i] / r + N_c, with normal N_c that add up to zero and whose power in every row is
      `snr_db` decibels below that of W / r (HyperCloning, Samragh et al., 2024);
    * `projection`: W'[:, c] = V[:, c] - (sum of V over the copies - W[:, i]) / r (LEMON, Wang et al., 2024).

    Args:
        split: the rule.
        tensor: (rows, old columns, ...), the small network's weights W.
        fresh: (rows, new columns, ...), filled in place with W'.
        index: (new columns,) positions among the old columns.
        generator: of the random draws.
        snr_db: signal-to-noise ratio of `paired`, in decibels.
    """
    exact = torch.promote_types(tensor.dtype, torch.float32)
    along = (1, -1, *[1] * (tensor.dim() - 2))
    copies = torch.bincount(index, minlength=tensor.shape[1])
    count = copies.to(exact).view(along)
    draws = torch.rand(len(index), generator=generator, dtype=torch.float64) + 0.5
    shares = draws / torch.zeros(len(copies), dtype=torch.float64).index_add(0, index, draws)[index]
    axes, tiny = tuple(range(1, tensor.dim())), torch.finfo(exact).tiny
    at_once = max(1, CHUNK // max(1, fresh[0].numel()))  # chunks that fit the cache are several times faster
    for old, new in zip(tensor.split(at_once), fresh.split(at_once), strict=True):
        old = old.to(exact)
        if split == "projection":
            fresh_rows = new.to(exact)
            scale = _row_power(old / count, axes) / _row_power(fresh_rows, axes).clamp(min=tiny)
            new.copy_(_sum_to(old, fresh_rows * scale.sqrt(), index, count))
        elif split == "unequal":
            new.copy_(old.index_select(1, index) * shares.to(exact).view(along))
        elif split == "equal":
            new.copy_((old / count).index_select(1, index))
        else:
            mean = old / count
            noise = torch.randn(new.shape, generator=generator, dtype=torch.float64).to(exact)
            noise = _sum_to(torch.zeros_like(old), noise, index, count)
            power = _row_power(mean, axes)
            # the part of the noise's amplitude that is left after the mean over the copies is subtracted
            kept = (1 - 1 / count).clamp(min=1e-9).sqrt().index_select(1, index)
            new.copy_(mean.index_select(1, index) + noise / kept * (power * 10 ** (-snr_db / 10)).sqrt())


def _row_power(tensor: torch.Tensor, axes: tuple[int, ...]) -> torch.Tensor:
    """Mean square of every row, over all its `axes`."""
    return tensor.square().mean(axes, keepdim=True)


def _sum_to(sums: torch.Tensor, values: torch.Tensor, index: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    """The columns nearest to `values` whose copies add up to `sums`."""
    excess = torch.zeros_like(sums).index_add_(1, index, values).sub_(sums).div_(count)
    return values - excess.index_select(1, index)
