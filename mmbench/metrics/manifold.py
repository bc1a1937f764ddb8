"""The manifold metric: how many more of its own permutations an expanded model is joined to than its base model.

Malviya, Huang, Baratin, Fournier and Chandar (2025, "Manifold Metric: A Loss Landscape Approach for Predicting Model
Performance", CoLLAs, arXiv:2405.15895), algorithm 1 and equation 2. A node is the network itself with the units of one
layer permuted, so it has the same function. From the start theta_1 = theta, each step swaps ceil(log2 l) random pairs
of the l units. The barrier of node i is that on the straight line to the START, not to the node before it:

    b_i       = |L((theta + theta_i) / 2) - L(theta)|                 (both ends have the loss L(theta))
    m(theta)  = #{i <= n: b_i(theta) <= lambda} / n
    lambda    = the q-quantile of the base model's barriers: the ceil(q n)-th smallest
    M         = m(theta) - m(phi*), in percent

lambda belongs to the base model phi*, whose barriers are measured once for all its expansions. As an order statistic it
makes M(phi*, phi*) exactly 0, and m(phi*) = ceil(q n) / n up to ties. Forward passes only: n + 1 of one batch of
training images, less what comes before the layer. n nodes are the first of every chain, then the second of every chain.

Expected sign +1. By construction M rises with the number of units that have a clone (Net2Wider's copies), are dead or
padded with zeros, since swaps among them have no barrier: see `details["clones"]`. A base model whose own quantile is 0
for that reason is flagged (`degenerate_threshold`): then only barriers of exactly 0 count as connected.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from mmbench.data.base import Split
from mmbench.landscape.midpoints import Lines, Statistics
from mmbench.landscape.permutations import Walk, choose, clones, orders, table_of
from mmbench.metrics.base import METRICS, Estimate, Metric
from mmbench.metrics.subject import Subject
from mmbench.models.table import Table
from mmbench.statistics.barriers import metric_from_barriers, share, standard_error, threshold


@METRICS.register("manifold")
class Manifold(Metric):
    """The paper's metric. Its standard error is over random walks; the images are given."""

    expected_sign = 1
    compares = True

    quantile: float = Field(0.4, gt=0, le=1)
    """q: the share of the base model's nodes that sets the threshold."""
    nodes: int = Field(250, ge=1)
    """n, of all chains together."""
    walk: Walk = "chain"
    """Each node from the one before it, or each from the start."""
    pairs: Literal["log2", "all"] | Annotated[int, Field(ge=1)] = "log2"
    """Pairs of units swapped in a step; `log2` is ceil(log2 l), `all` a whole random permutation."""
    layer: str = "first"
    """Whose units are permuted: the first layer of at least 4 units, the first `inner` one (that one weight writes and
    one reads, as in a residual block), a channel group by name, or `each` in turn."""
    alphas: int = Field(1, ge=1)
    """Places on the line: the midpoint, or as many in a grid and a search around the highest for the true barrier."""
    statistics: Statistics = "keep"
    """Batch norm on the line: running statistics interpolated like weights, those of the batch, or folded into the
    weights first."""
    images: int = Field(512, ge=1)
    """Training images of a batch, the same for the base model and all its expansions."""
    batches: int = Field(1, ge=1)
    """Batches over which the loss is averaged."""
    chains: int = Field(4, ge=1)
    """Independent walks, which share the nodes evenly and give the standard error."""

    def reference_options(self) -> dict[str, Any]:
        """All but the quantile, which is read off the barriers, and the moment."""
        return {key: value for key, value in super().reference_options().items() if key != "quantile"}

    def check_tables(self, base: Table, large: Table) -> None:
        """Choose the layer, which a network may lack.

        Args:
            base: the axis table of the base model.
            large: that of the expanded model.

        Raises:
            UndefinedError: there is no such layer, or it is too small.
        """
        choose(base, self.layer)
        choose(large, self.layer, base)

    def reference(self, base: Subject) -> Mapping[str, Tensor]:
        """The base model's barriers.

        Returns:
            `barriers` (chains, nodes per chain), float64 nats.
        """
        return {"barriers": self._barriers(base, choose(table_of(base.network()), self.layer))}

    def measure(self, subject: Subject) -> Estimate:
        """M in percent.

        Returns:
            The estimate. Its details: m of the network and of its base model, the threshold in nats, the layer, its
            width and the units of it that have a clone (of `each`, of all layers together), the loss, and the barriers
            along the first two chains of the network (`curve0`, `curve1`) and of the base model (`base_curve0`, ...).
            Its tensors: all `barriers` of the network; those of its base model are the metric's reference.
        """
        subject.require_logits()
        theirs = subject.reference(self)["barriers"].numpy()
        model = subject.network()
        table = table_of(model)
        groups = choose(table, self.layer, table_of(subject.base))
        ours = self._barriers(subject, groups)
        mine = ours.numpy()
        nodes_of = {"candidate": mine, "base": theirs}
        height = threshold(theirs, self.quantile, self.nodes)
        curves = {
            f"{'base_' if name == 'base' else ''}curve{c}": barriers[c].tolist()
            for name, barriers in nodes_of.items()
            for c in range(min(2, len(barriers)))
        }
        return Estimate(
            metric_from_barriers(mine, theirs, self.quantile, self.nodes),
            standard_error(mine, theirs, self.quantile),
            details={
                "m": share(mine, height, self.nodes),
                "base_m": share(theirs, height, self.nodes),
                "q": self.quantile,
                "threshold": height,
                "degenerate_threshold": float(height == 0),
                "layer": ", ".join(groups),
                "width": float(sum(table.groups[group].size for group in groups)),
                "clones": float(sum(clones(model, table, group) for group in groups)),
                **curves,
            },
            tensors={"barriers": ours},
        )

    def _barriers(self, subject: Subject, groups: list[str]) -> Tensor:
        """The barriers of all nodes; step s of every chain permutes the group s modulo their number.

        Each group of each chain has a walk of its own, whose draws do not depend on how many nodes or chains there are.
        They are the same for the base model and all its expansions, so an expansion that leaves the layer and the
        function as they are scores exactly 0.

        Returns:
            (chains, nodes per chain), float64 nats.
        """
        seen = subject.surface(self.images * self.batches).images
        images = Split(seen.images, seen.labels)
        model, table, chains = subject.network(), table_of(subject.network()), min(self.chains, self.nodes)
        steps = -(-self.nodes // chains)
        barriers = torch.empty(chains, steps, dtype=torch.float64)
        for g, group in enumerate(groups):
            size, own = table.groups[group].size, len(range(g, steps, len(groups)))
            if not own:
                continue
            draws = [subject.common_generator(f"manifold {group} chain {c}") for c in range(chains)]
            walks = torch.cat([orders(size, own, self.walk, self.pairs, draw) for draw in draws])
            lines = Lines(model, images, group, self.statistics, self.images)
            barriers[:, g :: len(groups)] = lines.barriers(walks, self.alphas).view(chains, own)
        return barriers
