"""Width of the layer whose units the manifold metric permutes: the first one in the forward pass with at least 4 units.

Units that an expansion duplicates can be swapped at no cost, so the manifold metric rises with this number by
construction. Among expansions of this layer alone, it cannot beat the number unless it adds something to it. A wider
layer is expected to gain more: expected sign +1.
"""

from __future__ import annotations

from mmbench.errors import UndefinedError
from mmbench.metrics.base import METRICS, Estimate, Metric
from mmbench.metrics.subject import Subject
from mmbench.models.reading import architecture_of
from mmbench.models.table import Table

SMALLEST = 4
"""Units that a layer must have, so that it has several permutations."""


@METRICS.register("layer_width")
class LayerWidth(Metric):
    """Number of units, or of channels of a convolution, of the permuted layer; exactly."""

    expected_sign = 1

    def measure(self, subject: Subject) -> Estimate:
        """Count; `UndefinedError` for a network of no known family, or without such a layer."""
        model = subject.network()
        for module in model.modules():
            module._forward_hooks.clear()  # the family is not recognised with hooks; they do not change a width
        architecture, shape = architecture_of(model)
        table = architecture.table(shape)
        return Estimate(float(table.groups[first_layer(table)].size), 0.0)


def first_layer(table: Table) -> str:
    """The first channel group, in the order of the forward pass, of at least 4 units; `UndefinedError` if none has."""
    for name, group in table.groups.items():
        if group.size >= SMALLEST:
            return name
    sizes = {name: group.size for name, group in table.groups.items()}
    raise UndefinedError(f"no layer of the network has {SMALLEST} units or more to permute: it has {sizes}")
