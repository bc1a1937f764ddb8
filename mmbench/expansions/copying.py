"""What all operators that copy channels share: index maps, and the split of outgoing weights.

An index map m: [C'] -> [C] gives for each channel of the larger network the channel of the small one that it copies;
its first C entries are the identity. Rows of a producer are copied, W'[c] = W[m(c)]. Columns of a consumer are split so
that the copies of a channel add up to it, sum over c in m^-1(i) of W'[:, c] = W[:, i]: the function is kept exactly.

The channels of a head appear twice: attention sums q[c] k[c] over them and divides by the square root of their number,
and `proj` reads the channels of the values. So queries are to keys what a consumer's columns are to its rows. Keys are
copied, and queries are split so that the copies of a channel add up to sqrt(r) q[i]. If both were copied, nothing would
tell the copies apart: they would get the same gradients at every step.
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
                rows = tensor.index_select(dim, entries(axis, growth.old, partial(_copied, maps)))
                if _heads_grow(growth, axis):
                    self._split_queries(growth, name, maps, tensor, rows)
                tensor = rows
        return tensor

    def _split_queries(self, growth: Growth, name: str, maps: Maps, small: torch.Tensor, rows: torch.Tensor) -> None:
        """Replace the copies of the queries, the first third of the rows of a `qkv`, by their shares.

        Args:
            growth: the networks.
            name: of the weight or the bias.
            maps: per group the index map (C',).
            small: the small network's tensor.
            rows: its copied rows; changed in place.
        """
        heads, channels = growth.new.tensors[name][0].groups
        old, new = (table.groups[channels].size for table in (growth.old, growth.new))
        queries = small[: len(small) // 3].unflatten(0, (-1, old)).to(torch.promote_types(small.dtype, torch.float32))
        fresh = growth.fresh[name][: len(rows) // 3].unflatten(0, (-1, new))[: len(queries)]
        shared = (fresh if fresh.dim() < 3 else fresh[..., : small.shape[1]]).clone()
        self.share(queries * (new / old) ** 0.5, shared, maps[channels], growth.generator)
        rows[: len(rows) // 3] = shared.index_select(0, maps[heads]).flatten(0, 1)


def _heads_grow(growth: Growth, axis: Axis) -> bool:
    """Whether an axis is that of queries, keys and values whose heads get more channels."""
    return any(
        new.coupled_by == "attention" and new.size != growth.old.groups[group].size
        for group in axis.groups
        if (new := growth.new.groups[group])
    )


def _copied(maps: Maps, group: str) -> torch.Tensor:
    return maps[group]


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
    * `unequal`: W'[:, c] = a_c W[:, i], with random a_c that add up to one, two of them at least 1 / (6 r) of their sum
      apart;
    * `paired`: W'[:, c] = W[:, i] / r + N_c, with normal N_c that add up to zero and whose power in every row is
      `snr_db` decibels below that of W / r (HyperCloning, Samragh et al., 2024);
    * `projection`: W'[:, c] = V[:, c] - (sum of V over the copies - W[:, i]) / r (LEMON, Wang et al., 2024).

    Shares of nothing are equal. So where all of W is zero, such as a classifier before its first training, or below a
    thousandth of 1 / sqrt(fan-in), every split but `equal` is a projection of V with that root mean square. Where the
    initialisation is zero, V is normal.

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
    shares = _unequal_shares(index, copies, generator)
    axes, fan_in = tuple(range(1, tensor.dim())), max(1, fresh[0].numel())
    nothing = float(torch.linalg.vector_norm(tensor, dtype=exact)) < 1e-3 * (tensor.numel() / fan_in) ** 0.5
    if nothing and split != "equal":
        split = "projection"
    if split == "projection" and not fresh.any():
        fresh.normal_(generator=generator)
    at_once = max(1, CHUNK // fan_in)  # chunks that fit the cache are several times faster
    for old, new in zip(tensor.split(at_once), fresh.split(at_once), strict=True):
        old = old.to(exact)
        if split == "projection":
            fresh_rows = new.to(exact)
            size = fan_in**-0.5 if nothing else _row_power(old / count, axes).sqrt()
            scale = size / _row_power(fresh_rows, axes).sqrt().clamp(min=torch.finfo(exact).tiny ** 0.5)
            new.copy_(_sum_to(old, fresh_rows * scale, index, count))
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


def _unequal_shares(index: torch.Tensor, copies: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Draw shares of which no two are nearly equal by chance.

    The r copies of a column draw from r intervals of length 1 / 2r, at distances of 1 / 2r, in [0.5, 1.5): one each.

    Args:
        index: (new columns,) the old column that each copies.
        copies: (old columns,) how often each is copied.
        generator: of the random draws.

    Returns:
        (new columns,) float64 shares, divided by their sum over the copies of a column.
    """
    order = index.argsort(stable=True)
    place = torch.empty_like(index)
    place[order] = torch.arange(len(index)) - (copies.cumsum(0) - copies)[index[order]]
    draws = torch.rand(len(index), generator=generator, dtype=torch.float64)
    turn = (draws[: len(copies)] * 2**20).long()  # so that the original has not always the smallest share
    draws = 0.5 + ((place + turn[index]) % copies[index] + draws / 2) / copies[index]
    return draws / torch.zeros(len(copies), dtype=torch.float64).index_add(0, index, draws)[index]


def _row_power(tensor: torch.Tensor, axes: tuple[int, ...]) -> torch.Tensor:
    """Mean square of every row, over all its `axes`."""
    return tensor.square().mean(axes, keepdim=True)


def _sum_to(sums: torch.Tensor, values: torch.Tensor, index: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    """The columns nearest to `values` whose copies add up to `sums`."""
    excess = torch.zeros_like(sums).index_add_(1, index, values).sub_(sums).div_(count)
    return values - excess.index_select(1, index)
