"""`ligo`: a learned linear growth operator (Wang et al., 2023, arXiv:2303.00980).

Every tensor of the larger network is a linear function of the small network's tensors, W'_l = sum_j D_lj B W_j A^T. B
mixes the channels that the tensor produces and A those that it consumes; there is one B and one A per channel group. D
mixes the blocks of a stage; it has one row per tensor of a block. All are learned by AdamW on the training loss for a
hundred steps. They start from Net2Wider and interpolation, with a little noise, without which copies would stay equal.
The function is not kept.

The running statistics of batch norm are computed from the training images at the end.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mmbench.expansions._linear_growth import LinearGrowth
from mmbench.expansions.base import EXPANSIONS, Filled, Growth
from mmbench.expansions.depth import repeated
from mmbench.expansions.sized import Sized
from mmbench.models.table import Table


@EXPANSIONS.register("ligo")
class LiGO(Sized):
    """Learn how to grow, then grow."""

    preserves = "no"
    needs_data = True
    learns = True

    axis: Literal["width", "first", "convolutions", "stream", "hidden", "heads", "depth"] = "width"
    """All channels, those of the first layer, of the convolutions or of the residual stream, the units inside the
    blocks, attention heads, or blocks."""
    learning_steps: int = Field(100, ge=1)
    """Steps of learning the operator; they count as time of the expansion."""
    learning_rate: float = Field(1e-3, gt=0)
    """AdamW's."""
    batch_size: int = Field(64, ge=1)
    """Images per step."""
    noise: float = Field(0.03, gt=0)
    """Standard deviation of the noise on the new rows of A, B and D."""

    def arrange(self, old: list[str], new: list[str], tables: tuple[Table, Table]) -> list[str | None]:
        """The blocks of `interpolate`, from which the mixture of blocks starts.

        Args:
            old: the small network's blocks of the stage.
            new: the larger network's.
            tables: the axis tables of both.

        Returns:
            For each block in `new` a block in `old`.
        """
        return repeated(self.name, old, new, tables, lambda place, count, places: place * count // places)

    def fill(self, growth: Growth) -> Filled:
        """Learn A, B and D, and apply them."""
        assert growth.data is not None
        operator = LinearGrowth(growth, self.noise)
        if growth.learned:
            operator.use(growth.learned)
        else:
            operator.learn(*growth.data, self.learning_steps, self.learning_rate, self.batch_size)
            growth.learned.update(operator.learned_state())
        yield from operator.state().items()
