"""Width of the layer that the manifold metric permutes by default: the first hidden one with at least 4 units.

As there, the base model's first such layer counts, where the base model is known and the network has that layer, too.

Units that an expansion duplicates can be swapped at no cost, so the manifold metric rises with this number by
construction. Among expansions of this layer alone, it has to beat the number to be worth its cost. A wider layer is
expected to gain more: expected sign +1.
"""

from __future__ import annotations

from mmbench.landscape.permutations import choose, table_of
from mmbench.metrics.base import METRICS, Estimate, Metric
from mmbench.metrics.subject import Subject


@METRICS.register("layer_width")
class LayerWidth(Metric):
    """Number of units, or of channels of a convolution, of the permuted layer; exactly."""

    expected_sign = 1

    def measure(self, subject: Subject) -> Estimate:
        """Count; `UndefinedError` for a network of no known family, or without such a layer."""
        table = table_of(subject.network())
        (layer,) = choose(table, "first", table_of(subject.base) if subject.has_base else None)
        return Estimate(float(table.groups[layer].size), 0.0)
