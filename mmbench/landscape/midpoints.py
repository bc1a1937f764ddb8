"""Losses on the straight lines from a network to permutations of itself, many permutations at a time.

The barrier between theta and P theta (Entezari et al., 2022) is |L(theta_a) - L(theta)|, theta_a = (1 - a) theta +
a P theta, since both ends have the same loss; Malviya et al. (2025) take it at a = 1/2.

Where one layer writes the group and one reads it, activations are mixed (`mixed.py`). Elsewhere (a residual stream)
weights are, node by node; before mixed activations are trusted, one node is compared with mixed weights, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm

from mmbench.data.base import Split
from mmbench.landscape import surface
from mmbench.landscape.folding import fold_batch_norms
from mmbench.landscape.mixed import Mixed
from mmbench.landscape.permutations import table_of, towards
from mmbench.landscape.surface import evaluating
from mmbench.models.copies import copied
from mmbench.models.measurable import full_dtype, in_full
from mmbench.models.table import Table

Loss = Callable[[Tensor, Tensor], Tensor]
"""Logits (n, classes) in float64 and labels (n,) to the loss of each image (n,)."""
Statistics = Literal["keep", "recompute", "fold"]
LARGEST = 4096
"""Images times nodes of one pass on an accelerator; fewer on a CPU."""
SEARCH = 12
"""Steps of the golden-section search; each shrinks the bracket to 0.618 of its length."""
GOLDEN = (5**0.5 - 1) / 2
ROUNDING = 8
"""Relative errors of a logit, in units of the dtype's epsilon, below which a change of the loss is rounding."""


def entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each image (n,), nats."""
    return cross_entropy(logits, labels, reduction="none")


class Lines:
    """L on the lines from a network to permutations of one of its channel groups."""

    def __init__(
        self,
        model: nn.Module,
        images: Split,
        group: str,
        statistics: Statistics = "keep",
        batch: int | None = None,
        loss: Loss = entropy,
        fast: bool = True,
        table: Table | None = None,
    ) -> None:
        """Prepare a copy of the network.

        Args:
            model: of one of the families in `mmbench.models`, unless a table is given; in half precision, the copy is
                in single precision.
            images: on which the loss is taken.
            group: the channel group whose units are permuted.
            statistics: of the batch norms between the ends: running ones interpolated like weights (`keep`), those of
                the batch at hand (`recompute`), or folded into the weights first (`fold`).
            batch: images whose statistics `recompute` takes together; all of them by default.
            loss: of each image.
            fast: False mixes weights even where activations could be mixed.
            table: the network's axis table; that of its family by default.
        """
        self.table, self.group, self.loss = table or table_of(model), group, loss
        self.model = evaluating(in_full(copied(model)))
        self.images = Split(images.images.to(full_dtype(model)), images.labels)
        self.together = (batch or len(images)) if statistics == "recompute" else None
        if statistics == "fold":
            fold_batch_norms(self.model, images.images[:2])
        if statistics == "recompute":
            for norm in self.model.modules():
                if isinstance(norm, _BatchNorm):
                    norm.running_mean = norm.running_var = norm.num_batches_tracked = None
        self.fast = Mixed.of(self.model, self.table, group) if fast else None
        if self.fast and not self._agrees():
            self.fast = None

    def losses(self, orders: Tensor, alphas: Tensor | float = 0.5) -> Tensor:
        """L at (1 - a) theta + a P theta for each permutation.

        Args:
            orders: (n, l) permutations.
            alphas: a, one for all or (n,).

        Returns:
            (n,) nats, float64; infinite where it is not a finite number.
        """
        at = torch.as_tensor(alphas, dtype=torch.float64).expand(len(orders))
        totals = torch.zeros(len(orders), dtype=torch.float64, device=self.images.labels.device)
        with torch.no_grad():
            for pixels, labels in self._chunks():
                totals += self._sums(orders, at, pixels, labels)
        return (totals / len(self.images)).nan_to_num(nan=torch.inf).cpu()

    def rounding(self) -> float:
        """A change of L of this size may be rounding: what relative errors of the logits add up to, in first order."""
        total = 0.0
        for pixels, labels in self._chunks():
            with torch.no_grad():
                logits = self.model(pixels)
            z = logits.double().requires_grad_()
            with torch.enable_grad():
                (slope,) = torch.autograd.grad(self.loss(z, labels).sum(), z)
            total += float((slope * z.detach()).abs().sum())
        return ROUNDING * torch.finfo(self.images.images.dtype).eps * total / len(self.images)

    def barriers(self, orders: Tensor, alphas: int = 1) -> Tensor:
        """|L(theta_a) - L(theta)| of each permutation, at its largest; both ends have the loss L(theta).

        What rounding alone could do counts as zero, so that a swap of clones or of dead units has no barrier.

        Args:
            orders: (n, l) permutations.
            alphas: 1 for the midpoint alone; more for as many equally spaced points inside (0, 1) and a golden-section
                search between the neighbours of the highest.

        Returns:
            (n,) nats, float64.
        """
        start = self.losses(torch.arange(orders.shape[1])[None])
        heights = partial(self._heights, orders, start)
        if alphas == 1:
            best = heights(0.5)
        else:
            grid = torch.arange(1, alphas + 1, dtype=torch.float64) / (alphas + 1)
            best, at = torch.stack([heights(float(a)) for a in grid]).max(0)
            best = torch.maximum(best, _highest(heights, grid[at], 1 / (alphas + 1)))
        return torch.where(best <= self.rounding(), 0.0, best)

    def _heights(self, orders: Tensor, start: Tensor, alphas: Tensor | float) -> Tensor:
        return (self.losses(orders, alphas) - start).abs()

    def _sums(self, orders: Tensor, alphas: Tensor, pixels: Tensor, labels: Tensor) -> Tensor:
        """The summed loss of the images at each node (n,)."""
        if not self.fast:
            return torch.stack([self._slowly(o, float(a), pixels, labels) for o, a in zip(orders, alphas, strict=True)])
        self.fast.record(pixels)
        count = max(1, self._largest // len(pixels))
        sums = []
        for some, at in zip(orders.split(count), alphas.split(count), strict=True):
            logits = self.fast.logits(pixels, some.to(pixels.device), at.to(pixels)).double()
            sums.append(self.loss(logits, labels.repeat_interleave(len(some))).view(-1, len(some)).sum(0))
        return torch.cat(sums)

    def _slowly(self, order: Tensor, alpha: float, pixels: Tensor, labels: Tensor) -> Tensor:
        """The same of one node, by mixing weights."""
        state = towards(self.model, self.table, self.group, order, alpha)
        return self.loss(functional_call(self.model, state, (pixels,)).double(), labels).sum()

    def _chunks(self) -> Iterator[tuple[Tensor, Tensor]]:
        size = self.together or self._largest
        return zip(self.images.images.split(size), self.images.labels.split(size), strict=True)

    @property
    def _largest(self) -> int:
        """Images times nodes of one pass."""
        if self.images.images.is_cuda:
            return LARGEST
        # On a CPU, images of a convolution are to stay in the cache; vectors are too small to be worth a pass.
        spatial = self.fast is not None and isinstance(self.fast.writer, nn.Conv2d)
        return max(1, surface.CHUNK // 4) if spatial else 2 * surface.CHUNK

    def _agrees(self) -> bool:
        """Whether two nodes in one pass have the losses that mixed weights give, on a few images."""
        assert self.fast
        few, labels = self.images.images[:16], self.images.labels[:16]
        straight = torch.arange(self.table.groups[self.group].size)
        walk, at = torch.stack([straight.roll(1), straight.flip(0)]), torch.tensor([0.25, 0.5], dtype=torch.float64)
        with torch.no_grad():
            slow = [self._slowly(order, float(a), few, labels) for order, a in zip(walk, at, strict=True)]
            try:
                self.fast.record(few)
                logits = self.fast.logits(few, walk.to(few.device), at.to(few)).double()
            except (RuntimeError, TypeError, ValueError, AttributeError, KeyError):
                return False
        found = self.loss(logits, labels.repeat_interleave(2)).view(-1, 2).sum(0)
        return torch.allclose(found, torch.stack(slow), rtol=1e4 * torch.finfo(few.dtype).eps)


def _highest(height: Callable[[Tensor], Tensor], centre: Tensor, reach: float) -> Tensor:
    """The largest height (n,) that a golden-section search finds in [centre - reach, centre + reach]."""
    low, high = centre - reach, centre + reach
    left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    at_left, at_right = height(left), height(right)
    best = torch.maximum(at_left, at_right)
    for _ in range(SEARCH - 2):
        leftwards = at_left > at_right
        low, high = torch.where(leftwards, low, left), torch.where(leftwards, right, high)
        new = torch.where(leftwards, high - GOLDEN * (high - low), low + GOLDEN * (high - low))
        value = height(new)
        left, right = torch.where(leftwards, new, right), torch.where(leftwards, left, new)
        at_left, at_right = torch.where(leftwards, value, at_right), torch.where(leftwards, at_left, value)
        best = torch.maximum(best, value)
    return best
