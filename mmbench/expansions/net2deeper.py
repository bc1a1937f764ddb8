"""`net2deeper`: insert layers that are the identity (Chen, Goodfellow and Shlens, 2016, arXiv:1511.05641).

A new layer has the identity matrix as its weight and a bias of zero; a new convolution copies every channel, with the
identity at the centre of the kernel and zeros around it. The layer follows a ReLU and is followed by one, and
ReLU(ReLU(x)) = ReLU(x), so the function is kept exactly. It stands before the pool that follows the old convolution.

The operator is for plain networks: a GELU applied twice is not one GELU, and in a residual network the layer would have
to be inside a block. A new layer is as wide as the one before it; `expansion=net2net` reaches other widths as well.
"""

from __future__ import annotations

from typing import Literal

import torch

from mmbench.data.base import InputShape
from mmbench.errors import UndefinedError
from mmbench.expansions.base import EXPANSIONS, Arrangement, Filled, Growth
from mmbench.expansions.placing import Placing, counterparts
from mmbench.expansions.sized import Sized
from mmbench.models.base import Architecture
from mmbench.models.plain import Plain, places_after


@EXPANSIONS.register("net2deeper")
class Net2Deeper(Placing, Sized):
    """More layers, the identity before training, each as wide as the layer that it follows."""

    preserves = "exact"
    families = ("cnn", "mlp")

    axis: Literal["depth"] = "depth"
    """Depth only: of a CNN, its convolutions."""

    @property
    def label(self) -> str:
        """Size and places."""
        return super().label + self.places

    def because(self, base: Architecture) -> str:
        """The layers of residual networks are in blocks."""
        return ", whose layers are in residual blocks (expansion=identity_block inserts those)"

    def grown(self, base: Architecture, factor: float) -> Architecture:
        """More layers at the places of `after`, or spread evenly."""
        even = super().grown(base, factor)
        if self.after is None or even == base:
            return even
        assert isinstance(base, Plain)
        (name,) = base.axes[self.axis]
        old, new = len(base.sizes()[name]), len(even.sizes()[name])
        return base.deepened(name, places_after(self.after, old, new - old))

    def arrangement(self, base: Architecture, target: Architecture, shape: InputShape) -> Arrangement:
        """New layers where their widths are those of the layers before them.

        Args:
            base: the small architecture.
            target: the larger one.
            shape: not used.

        Returns:
            For each layer of the larger network the one of the small network that it continues, or None.

        Raises:
            UndefinedError: a layer has another width than the one that it continues or follows.
        """
        assert isinstance(base, Plain)
        found = counterparts(base, target, self.after)
        for name, old, new in zip(base.plain, base.blocks(), target.blocks(), strict=True):
            widths, wider, width = base.sizes()[name], target.sizes()[name], 0
            for layer, reached in zip(new, wider, strict=True):
                origin = found[layer]
                width = width if origin is None else widths[old.index(origin)]
                if reached != width:
                    raise UndefinedError(
                        "net2deeper inserts layers that are as wide as the ones that they follow, and leaves all "
                        f"others: model.{name} = {[*widths]} cannot become {[*wider]}; use expansion=net2net"
                    )
        return found

    def fill(self, growth: Growth) -> Filled:
        """Old layers at their new places, identities between them."""
        for name, fresh in growth.fresh.items():
            source = growth.source(name)
            if source is not None:
                yield name, growth.small[source]
                continue
            fresh.zero_()
            if fresh.dim() > 1:
                centre = fresh
                for side in reversed(fresh.shape[2:]):
                    centre = centre[..., side // 2]
                centre.copy_(torch.eye(len(fresh)))
            yield name, fresh
