"""A network on the mixed activations of many nodes: no node has weights of its own.

At (1 - a) theta + a P theta, where P permutes the units of one layer by p, the layer's incoming weights are
(1 - a) W + a W[p] and its outgoing ones (1 - a) V + a V[:, p]. With z = W x, the layer therefore sees

    (1 - a) z + a z[p]        before its non-linearity, and
    (1 - a) h + a h[p^-1]     is what V itself, unmixed, must read after it.

What comes before the layer, and its output z, is computed once for all nodes; z is mixed for each node, and all nodes
go on through the network's own weights as one batch. Images stand outside, nodes inside: an activation of k nodes
(N k, C, ...) is also (N, k C, ...), in which a permutation of each node's channels is a single gather, and a batch norm
whose scale, shift and statistics are mixed per node and channel is a batch norm of k C channels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm, linear
from torch.nn.modules.batchnorm import _BatchNorm

from mmbench.landscape.permutations import weights_of
from mmbench.models.table import Table


class _ReachedError(Exception):
    """The layer is reached; the rest of the pass is not needed."""


class Mixed:
    """The logits of all nodes of one channel group. It changes how the modules of its network compute, for good."""

    def __init__(self, model: nn.Module, writer: str, reader: str, norms: list[_BatchNorm]) -> None:
        """Take over a network, which outside of `logits` computes what it did before.

        Args:
            model: in evaluation mode; a batch norm without running statistics uses those of the batch.
            writer: name of the layer whose output is the group.
            reader: name of the layer that sums over the group.
            norms: batch norms between them.
        """
        self.model, self.norms, self.nodes = model, norms, 0
        # Any: a linear layer or a convolution, each used through what both have.
        self.writer: Any = model.get_submodule(writer)
        self.reader: Any = model.get_submodule(reader)
        self.size = len(self.writer.weight)
        self.recording, self.output = False, torch.empty(0)
        self.transposed = self.output
        self.orders, self.inverses = torch.empty(0), torch.empty(0)
        self.alphas = torch.empty(0)
        self.kept: dict[nn.Module, list[Tensor]] = {}
        self.calls: Counter[nn.Module] = Counter()
        self.repeated: dict[tuple[nn.Module, int], tuple[Tensor, int]] = {}
        _wrap(self.writer, self._write)
        _wrap(self.reader, self._read)
        for module in model.modules():
            if isinstance(module, _BatchNorm) and (module in norms or module.running_mean is None):
                _wrap(module, partial(self._normalise, module))
        path = writer.split(".")
        for depth, child in enumerate(path):
            parent = model.get_submodule(".".join(path[:depth]))
            before = [name for name, _ in parent.named_children()]
            for name, module in parent.named_children():
                if name == child:
                    continue
                # In a Sequential only the last module before the child has a say, and the writer needs no input.
                chained = isinstance(parent, nn.Sequential) and before.index(name) < before.index(child)
                used = before.index(name) == before.index(child) - 1 and depth < len(path) - 1
                _wrap(module, self._pass if chained and not used else partial(self._repeat, module))

    @classmethod
    def of(cls, model: nn.Module, table: Table, group: str) -> Mixed | None:
        """None unless one layer writes the group, one reads it, and nothing but batch norms lies in it besides.

        Args:
            model: in evaluation mode.
            table: its axis table.
            group: the channel group that is permuted.

        Returns:
            The network, taken over.
        """
        weights = weights_of(table, group)
        if [role for role, _ in weights] != ["out", "in"]:
            return None
        (rows, _), (_, columns) = (table.tensors[name][:2] for _, name in weights)
        writer, reader = (name.removesuffix(".weight") for _, name in weights)
        names = {
            name.rpartition(".")[0] for name, axes in table.tensors.items() if any(group in a.groups for a in axes)
        }
        others = [model.get_submodule(name) for name in sorted(names - {writer, reader})]
        norms = [module for module in others if isinstance(module, _BatchNorm)]
        layers = [model.get_submodule(name) for name in (writer, reader)]
        if (
            len(norms) < len(others)
            or not all(isinstance(layer, nn.Linear | nn.Conv2d) for layer in layers)
            or getattr(layers[1], "groups", 1) > 1
            or rows.parts != (group,)
            or columns.parts[0] != group
            or columns.groups != [group]
        ):
            return None
        return cls(model, writer, reader, norms)

    def record(self, pixels: Tensor) -> None:
        """Compute what comes before the layer, and the layer's output.

        Args:
            pixels: (N, C, H, W), those of the following calls of `logits`.

        Raises:
            RuntimeError: the network does not use the layer.
        """
        self.kept, self.repeated, self.recording = {}, {}, True
        try:
            self.model(pixels)
        except _ReachedError:
            return
        finally:
            self.recording = False
        raise RuntimeError("the network does not use the layer whose units are permuted")

    def logits(self, pixels: Tensor, orders: Tensor, alphas: Tensor) -> Tensor:
        """The logits of every image at every node.

        Args:
            pixels: (N, C, H, W), as recorded.
            orders: (k, l) permutations.
            alphas: (k,) places on their lines.

        Returns:
            (N k, classes), the nodes of an image in a row.
        """
        offsets = self.size * torch.arange(len(orders), device=orders.device)[:, None]
        self.nodes, self.alphas, self.orders = len(orders), alphas, orders
        self.inverses, self.calls = orders.argsort(1) + offsets, Counter()
        try:
            logits: Tensor = self.model(pixels)
        finally:
            self.nodes = 0
        return logits

    def _write(self, original: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        if self.recording:
            self.output = original(*inputs)
            self.transposed = self.output.T.contiguous() if self.output.dim() == 2 else self.output
            raise _ReachedError
        if not self.nodes:
            return original(*inputs)
        z, k = self.output, self.nodes
        if k == 1 and z.dim() == 2:  # whole rows of the transpose move, not single numbers
            rows = self.transposed
            return torch.lerp(rows, rows.index_select(0, self.orders[0]), self.alphas).T
        if z.dim() == 2 or isinstance(self.writer, nn.Conv2d):
            mixed = z.index_select(1, self.orders.reshape(-1)).unflatten(1, (k, self.size))
        else:  # channels last: (N, T, l) to (N, k, T, l)
            mixed = z[..., self.orders].movedim(-2, 1)
        return torch.lerp(z.unsqueeze(1), mixed, self.alphas.view(1, k, *[1] * (z.dim() - 1))).flatten(0, 1)

    def _read(self, original: Callable[..., Tensor], h: Tensor) -> Tensor:
        if not self.nodes:
            return original(h)
        k = self.nodes
        if k == 1 and self.reader.weight.numel() < h.numel():  # then weights are cheaper to mix than activations
            columns = self.reader.weight.unflatten(1, (self.size, -1))
            weight = torch.lerp(columns, columns.index_select(1, self.orders[0]), self.alphas).flatten(1, 2)
            compute = self.reader._conv_forward if isinstance(self.reader, nn.Conv2d) else linear
            output: Tensor = compute(h, weight, self.reader.bias)
            return output
        if h.dim() == 2 or isinstance(self.reader, nn.Conv2d):  # a flattened image has several entries per channel
            own = h.reshape(len(h) // k, k * self.size, -1)
            back = own.index_select(1, self.inverses.reshape(-1))
            weight = self.alphas.repeat_interleave(self.size)[None, :, None]
        else:
            own = h.unflatten(0, (-1, k))
            index = (self.inverses % self.size).view(1, k, *[1] * (h.dim() - 2), self.size)
            back = torch.take_along_dim(own, index, -1)
            weight = self.alphas.view(1, k, *[1] * (h.dim() - 1))
        return original(torch.lerp(own, back, weight).reshape(h.shape))

    def _normalise(self, norm: _BatchNorm, original: Callable[..., Tensor], x: Tensor) -> Tensor:
        if not self.nodes:
            return original(x)
        parts = (norm.running_mean, norm.running_var, norm.weight, norm.bias)
        mean, variance, scale, shift = (None if part is None else self._of_nodes(part, norm) for part in parts)
        together = x.reshape(len(x) // self.nodes, self.nodes * x.shape[1], *x.shape[2:])
        return batch_norm(together, mean, variance, scale, shift, mean is None, 0.0, norm.eps).view(x.shape)

    def _of_nodes(self, values: Tensor, norm: _BatchNorm) -> Tensor:
        """A batch norm's values (C,) for all nodes in a row (k C,); mixed if the norm lies in the group."""
        if norm not in self.norms:
            return values.repeat(self.nodes)
        return torch.lerp(values.expand_as(self.orders), values[self.orders], self.alphas[:, None]).reshape(-1)

    def _repeat(self, module: nn.Module, original: Callable[..., Any], *inputs: Any, **options: Any) -> Any:
        """A module beside the way to the layer: what it returned before the layer, once per node."""
        if self.recording:
            self.kept.setdefault(module, []).append(output := original(*inputs, **options))
            return output
        call, kept = self.calls[module], self.kept.get(module, [])
        if not self.nodes or call >= len(kept):  # after the layer
            return original(*inputs, **options)
        self.calls[module] += 1
        wide, version = self.repeated.get((module, call), (None, 0))
        if wide is None or wide._version != version or len(wide) != self.nodes * len(kept[call]):
            wide = kept[call].repeat_interleave(self.nodes, 0)
            self.repeated[module, call] = wide, wide._version
        return wide

    def _pass(self, original: Callable[..., Any], *inputs: Any) -> Any:
        """A module of a Sequential whose output nothing uses any more."""
        return inputs[0] if self.nodes else original(*inputs)


def _wrap(module: nn.Module, replacement: Callable[..., Any]) -> None:
    """Let `module` compute `replacement(original, ...)`."""
    module.forward = partial(replacement, module.forward)
