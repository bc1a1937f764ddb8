"""`lemon`: exact expansion of a Vision Transformer to any width, by averaging (Wang et al., 2024, arXiv:2310.07999).

A stream of C channels is copied k times, as in Net2Wider, and the remaining q = C' - kC channels carry the mean over
the old ones: x' = [x; ...; x; mean(x)]. Every layer that writes into the stream gets q more rows, each the mean of its
rows. The LayerNorm's mean stays the same, its variance is multiplied by eta^2 = kC / C', so

    gamma' = [eta gamma; ...; eta gamma; free],  beta' = [beta; ...; beta; 0],  eps' = eta^2 eps

give LN(x') = [LN(x); ...; LN(x); 0], and the q new columns of the layers that read the stream may hold any values.
Attention heads and hidden units have no LayerNorm and are copied as in Net2Wider.

The operator is not defined for MLP-Mixer and ConvNeXt: between stream and LayerNorm they transform every channel by
itself (a token MLP, a depthwise filter), so a channel that carries the mean would not stay the mean.
"""

from __future__ import annotations

from typing import Literal

import torch

from mmbench.errors import UndefinedError
from mmbench.expansions.base import EXPANSIONS, Growth
from mmbench.expansions.copying import Copying, Maps, shuffled, split_columns
from mmbench.models.base import Architecture
from mmbench.models.table import Group, out


@EXPANSIONS.register("lemon")
class Lemon(Copying):
    """Whole copies of the stream, and the mean in the channels that are left."""

    preserves = "exact"
    families = ("vit",)
    copies = False  # the stream need not be whole copies

    axis: Literal["width", "stream", "hidden", "heads"] = "width"
    """`width`: all channels; `stream`: the residual stream only; `hidden`: the units inside the blocks only; `heads`:
    attention heads only."""

    def because(self, base: Architecture) -> str:
        """Why the other families are excluded."""
        if base.name in ("mixer", "convnext"):
            return ", where a channel that carries the mean over the others would not stay their mean"
        return ", which has no LayerNorm; net2wider is exact there for every size"

    def adapted(self, base: Architecture, architecture: Architecture) -> Architecture:
        """Multiply the epsilon of every LayerNorm by eta^2; it is part of the architecture, not of the state."""
        old, new = base.sizes(), architecture.sizes()
        if old["pre_norm"]:
            raise UndefinedError("lemon is not defined for model.pre_norm = true, whose LayerNorm feeds the stream")
        whole = new["embed_dim"] // old["embed_dim"] * old["embed_dim"]
        return architecture.of({**new, "eps": old["eps"] * (whole / new["embed_dim"])})

    def index_map(self, old: Group, new: Group, generator: torch.Generator) -> torch.Tensor:
        """Shuffled rounds; of the stream only whole ones.

        Args:
            old: the small network's group, of C channels.
            new: the larger network's, of C'.
            generator: of the random draws.

        Returns:
            (C',) indices of old channels; (kC,) for the stream.
        """
        size = new.size // old.size * old.size if old.coupled_by == "LayerNorm" else new.size
        return shuffled(old, Group(size), generator)

    def rows(self, growth: Growth, name: str, maps: Maps) -> torch.Tensor:
        """The copied rows and, for the remaining channels of the stream, rows that carry the mean.

        Args:
            growth: the networks.
            name: of the tensor.
            maps: per group the index map.

        Returns:
            The tensor with the rows of the larger network and the columns of the small one.
        """
        tensor = super().rows(growth, name, maps)
        dim = next((d for d, axis in enumerate(growth.new.tensors[name]) if axis == out("stream")), None)
        rest = growth.new.groups["stream"].size - len(maps["stream"])
        if dim is None or not rest:
            return tensor
        block, local = growth.place(name)
        tensor = tensor.double()
        if "norm" in name.rpartition(".")[0].rpartition(".")[2]:
            if name.endswith("bias"):
                return torch.cat([tensor, tensor.new_zeros(rest)])
            eta = (growth.target.sizes()["eps"] / growth.base.sizes()["eps"]) ** 0.5
            free = torch.rand(rest, generator=growth.generator, dtype=torch.float64) * 2 - 1
            return torch.cat([eta * tensor, free])
        if local.endswith(".gamma"):
            return torch.cat([tensor, tensor.new_ones(rest)])
        original = growth.small[name].double()
        scale = {".attn.proj": ".ls1.gamma", ".mlp.fc2": ".ls2.gamma"}.get(local.rsplit(".", 1)[0])
        if scale is not None and block + scale in growth.small:
            original = (original.movedim(dim, -1) * growth.small[block + scale].double()).movedim(-1, dim)
        mean = original.mean(dim, keepdim=True)
        return torch.cat([tensor, mean.expand(*(rest if d == dim else -1 for d in range(mean.dim())))], dim)

    def share(self, tensor: torch.Tensor, fresh: torch.Tensor, index: torch.Tensor, generator: torch.Generator) -> None:
        """Share columns by projection; the columns that read zeros keep their initialisation.

        Args:
            tensor: (rows, old columns, ...), the small network's weights.
            fresh: (rows, new columns, ...), the larger network's initialisation; filled in place.
            index: (copied columns,) the old column that each copies.
            generator: of the random draws.
        """
        split_columns("projection", tensor, fresh.narrow(1, 0, len(index)), index, generator)
