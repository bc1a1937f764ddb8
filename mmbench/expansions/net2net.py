"""`net2net`: Net2Wider, then Net2Deeper (Chen, Goodfellow and Shlens, 2016, arXiv:1511.05641).

First all layers are widened by duplicates, then identity layers are inserted; in a residual network, whose layers are
in blocks, blocks that are the identity. Both steps keep the function exactly. With `to` it reaches any larger
architecture of the family, layer by layer.
"""

from __future__ import annotations

from typing import Any, Self, cast

from pydantic import model_validator

from mmbench.expansions.base import EXPANSIONS
from mmbench.expansions.copying import Split
from mmbench.expansions.net2wider import Net2Wider
from mmbench.expansions.placing import Placing
from mmbench.expansions.sized import Sized
from mmbench.expansions.width_then_depth import TwoSteps
from mmbench.models.base import Architecture
from mmbench.models.plain import Plain


@EXPANSIONS.register("net2net")
class Net2Net(Placing, TwoSteps):
    """Wider by duplicates, then deeper by identities."""

    split: Split = "projection"
    """How a unit's outgoing weights are shared among its copies."""
    allow_symmetric: bool = False
    """Allow `split=equal`, whose copies stay equal."""

    @model_validator(mode="after")
    def _options_of_the_steps_are_right(self) -> Self:
        self.wider()
        return self

    @property
    def operators(self) -> str:
        """The places of new layers."""
        return self.places

    def wider(self) -> Sized:
        """Net2Wider."""
        return Net2Wider(
            axis=self.axis, tolerance=self.tolerance, split=self.split, allow_symmetric=self.allow_symmetric
        )

    def deeper(self, base: Architecture, after: list[int] | None = None) -> Sized:
        """Net2Deeper, or `identity_block` for a residual network.

        Args:
            base: the architecture that grows.
            after: of a plain network, the layers that the new ones follow, one for each.

        Returns:
            The operator.
        """
        options: dict[str, Any] = {"name": "identity_block", "tolerance": self.tolerance}
        if isinstance(base, Plain):
            options |= {"name": "net2deeper", "after": after or self.after}
        return cast("Sized", EXPANSIONS.create(options))
