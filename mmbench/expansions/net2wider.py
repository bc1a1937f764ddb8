"""`net2wider`: duplicate units and split their outgoing weights (Chen, Goodfellow and Shlens, 2016, arXiv:1511.05641).

Rows of a producer are copied, W'[c] = W[m(c)]; the columns of a consumer are split so that the copies of a unit add up
to it, sum over c in m^-1(i) of W'[:, c] = W[:, i], which keeps the function exactly. The splits:

* `projection` (as in LEMON, Wang et al., 2024): the larger network's own initialisation V projected onto that
  subspace, W'[:, c] = V[:, c] - (sum of V over the copies - W[:, i]) / r for a unit of r copies;
* `unequal`: W'[:, c] = a_c W[:, i] with random a_c that add up to one;
* `equal`: W'[:, c] = W[:, i] / r. The copies then receive the same gradients for ever and no capacity is gained, so it
  must be asked for with `allow_symmetric`.

Where a LayerNorm runs over a group, only whole copies of it keep the mean and variance: its factor must be an integer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import model_validator

from mmbench.errors import UndefinedError
from mmbench.expansions.base import Growth
from mmbench.expansions.widening import Widening, entries
from mmbench.registry import EXPANSIONS

if TYPE_CHECKING:
    import torch

    from mmbench.expansions.base import State
    from mmbench.models.base import Group, Table


@EXPANSIONS.register("net2wider")
class Net2Wider(Widening):
    """Duplicate units; exact on every family."""

    preserves = "exact"

    split: Literal["projection", "unequal", "equal"] = "projection"
    """How a unit's outgoing weights are shared among its copies."""
    allow_symmetric: bool = False
    """Allow `split=equal`, whose copies never part."""

    @model_validator(mode="after")
    def _symmetry_is_meant(self) -> Self:
        if self.split == "equal" and not self.allow_symmetric:
            raise ValueError(
                "expansion.split = equal makes copies that stay identical for ever; use projection or unequal, or set "
                "expansion.allow_symmetric=true if that is what you want"
            )
        return self

    def check(self, old: Table, new: Table) -> None:
        """A group under a LayerNorm must grow by an integer factor."""
        super().check(old, new)
        for name, group in new.groups.items():
            small = old.groups[name].size
            if group.layer_norm and group.size % small:
                raise UndefinedError(
                    f"net2wider can only copy the group {name!r} whole, since a LayerNorm runs over it, and {small} -> "
                    f"{group.size} is no integer factor; use an integer expansion.factor (2 makes about four times the "
                    "parameters), or expansion.axis=hidden"
                )

    def fill(self, growth: Growth) -> State:
        """Copy rows, split columns; computed in float64 and cast last."""
        maps = {
            name: _index_map(old, growth.new.groups[name], growth.generator) for name, old in growth.old.groups.items()
        }
        state = {}
        for name, fresh in growth.fresh.items():
            tensor = growth.small[name]
            dtype = tensor.dtype
            if dtype.is_floating_point:
                tensor, fresh = tensor.double(), fresh.double()
            columns: tuple[int, torch.Tensor] | None = None
            for dim, axis in enumerate(growth.new.tensors[name]):
                if axis.group is None:
                    continue
                index = entries(axis, maps[axis.group], growth.old.groups[axis.group].size)
                if axis.role == "in":
                    columns = dim, index
                else:
                    tensor = tensor.index_select(dim, index)
            if columns is not None:
                tensor = self._split(tensor, fresh, *columns, growth.generator)
            state[name] = tensor.to(dtype)
        return state

    def _split(
        self, tensor: torch.Tensor, fresh: torch.Tensor, dim: int, index: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        """The columns `index` of `tensor` along `dim`, shared so that the copies of each add up to it."""
        import torch

        copies = torch.bincount(index, minlength=tensor.shape[dim])
        along = [1] * tensor.dim()
        along[dim] = -1
        if self.split == "equal":
            return tensor.index_select(dim, index) / copies[index].view(along)
        if self.split == "unequal":
            draws = torch.rand(len(index), generator=generator, dtype=torch.float64) + 0.5
            share = draws / torch.zeros(len(copies), dtype=torch.float64).index_add(0, index, draws)[index]
            return tensor.index_select(dim, index) * share.view(along)
        excess = torch.zeros_like(tensor).index_add(dim, index, fresh) - tensor
        return fresh - (excess / copies.view(along)).index_select(dim, index)


def _index_map(old: Group, new: Group, generator: torch.Generator) -> torch.Tensor:
    """Which unit each channel copies: the identity, then shuffled rounds of all units, so that copies stay balanced.

    An integer factor makes whole rounds: as many copies of each unit, which a LayerNorm needs.
    """
    import torch

    rounds = -(-new.size // old.size)
    shuffled = [torch.randperm(old.size, generator=generator) for _ in range(rounds - 1)]
    return torch.cat([torch.arange(old.size), *shuffled])[: new.size]
