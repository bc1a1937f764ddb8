"""The computation of `ligo`: the large network's weights as a differentiable function of a few small matrices."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import cross_entropy
from torch.optim.swa_utils import update_bn

from mmbench.errors import ConfigError, ScoreError
from mmbench.expansions.base import Growth
from mmbench.expansions.copying import tiled
from mmbench.expansions.depth import alike
from mmbench.models.skeleton import skeleton
from mmbench.models.table import Axis


class LinearGrowth:
    """W'_l = sum_j D_lj B W_j A^T for every tensor: B and A for each channel group that grows, D for each block."""

    def __init__(self, growth: Growth, noise: float) -> None:
        self.growth = growth
        reference = next(growth.model.parameters())
        self.device, self.dtype = reference.device, torch.promote_types(reference.dtype, torch.float32)
        self.small = {
            name: tensor.to(self.device, self.dtype if tensor.is_floating_point() else tensor.dtype)
            for name, tensor in growth.small.items()
        }
        self.matrices: dict[str, Tensor] = {}
        self.mixtures: dict[str, tuple[list[str], Tensor]] = {}
        for group, new in growth.new.groups.items():
            old = growth.old.groups.get(group)
            if old is None or old.size == new.size:
                continue
            index = tiled(old, new)
            copies = torch.bincount(index, minlength=old.size)
            one_hot = torch.eye(old.size, dtype=torch.float64)[index]
            self.matrices[f"out {group}"] = self._start(one_hot, old.size, noise)
            self.matrices[f"in {group}"] = self._start(one_hot / copies, old.size, noise / float(copies.max()))
        if growth.target.depth() != growth.base.depth():
            self._mix_blocks(noise)
        self.learned = [*self.matrices.values(), *(weights for _, weights in self.mixtures.values())]
        self.network = skeleton(growth.target, growth.shape).train()

    def _start(self, matrix: Tensor, kept: int, noise: float) -> Tensor:
        """The initial value of a learned matrix: `matrix`, with noise on all rows but the first `kept`."""
        draws = torch.randn(matrix.shape, generator=self.growth.generator, dtype=torch.float64) * noise
        draws[:kept] = 0
        return (matrix + draws).to(self.device, self.dtype).requires_grad_()

    def _mix_blocks(self, noise: float) -> None:
        growth = self.growth
        for old, new in zip(growth.base.blocks(), growth.target.blocks(), strict=True):
            for block in new:
                fitting = [b for b in old if alike(growth.old, b, growth.new, block)]
                origin = growth.arrangement[block]
                if origin not in fitting:
                    continue
                start = torch.zeros(len(fitting), dtype=torch.float64)
                start[fitting.index(origin)] = 1.0
                for name in growth.new.tensors:
                    if name.startswith(f"{block}.") and name not in growth.new.buffers:
                        self.mixtures[name] = fitting, self._start(start[None], 0, noise)

    def weights(self) -> dict[str, Tensor]:
        """All parameters of the larger network; differentiable in A, B and D."""
        return {name: self._grown(name) for name in self.growth.new.tensors if name not in self.growth.new.buffers}

    def _grown(self, name: str) -> Tensor:
        growth = self.growth
        source = growth.source(name)
        assert source is not None
        tensor = self.small[source]
        if name in self.mixtures:
            fitting, weights = self.mixtures[name]
            rest = growth.place(name)[1]
            stacked = torch.stack([self.small[block + rest] for block in fitting])
            tensor = (weights.view(-1, *[1] * tensor.dim()) * stacked).sum(0)
        for dim, axis in enumerate(growth.old.tensors[source]):
            tensor = self._along(tensor, dim, axis)
        return tensor

    def _along(self, tensor: Tensor, dim: int, axis: Axis) -> Tensor:
        old = self.growth.old
        sizes = [old.groups[part].size if isinstance(part, str) else part for part in axis.parts]
        for i, part in enumerate(axis.parts):
            matrix = self.matrices.get(f"{axis.role} {part}")
            if matrix is not None:
                parts = tensor.unflatten(dim, sizes)
                tensor = torch.tensordot(matrix, parts, dims=([1], [dim + i])).movedim(0, dim + i)
                tensor = tensor.flatten(dim, dim + len(sizes) - 1)
                sizes[i] = len(matrix)
        return tensor

    def buffers(self) -> dict[str, Tensor]:
        """Running statistics: those of the channels that the initial matrices copy."""
        statistics = {}
        for name in self.growth.new.buffers:
            source = self.growth.source(name)
            assert source is not None
            tensor = self.small[source].clone()
            for axis in self.growth.new.tensors[name]:
                (group,) = axis.groups
                tensor = tensor[torch.arange(self.growth.new.groups[group].size, device=self.device) % len(tensor)]
            statistics[name] = tensor
        return statistics

    def learn(self, images: Tensor, labels: Tensor, steps: int, learning_rate: float, batch_size: int) -> None:
        """Learn A, B and D by AdamW on the training loss of the larger network.

        Args:
            images: (N, C, H, W), at least 2.
            labels: (N,).
            steps: of AdamW.
            learning_rate: of AdamW.
            batch_size: images per step.

        Raises:
            ConfigError: there are fewer than 2 images.
            ScoreError: the training loss is not finite.
        """
        if len(images) < 2:
            raise ConfigError("ligo learns from data of at least 2 images")
        optimiser = torch.optim.AdamW(self.learned, lr=learning_rate, weight_decay=0.0)
        statistics = self.buffers()
        with torch.enable_grad():
            for step in range(steps):
                batch = torch.randperm(len(images), generator=self.growth.generator)[:batch_size].to(images.device)
                x = images[batch].to(self.device, self.dtype)
                optimiser.zero_grad()
                logits = functional_call(self.network, {**self.weights(), **statistics}, (x,))
                loss = cross_entropy(logits, labels[batch].to(self.device))
                if not loss.isfinite():
                    raise ScoreError(
                        f"ligo's training loss is {loss.item()} after {step} steps: lower expansion.learning_rate = "
                        f"{learning_rate:g}, and check that the images and weights are finite"
                    )
                loss.backward()
                optimiser.step()
        self.examples = images[torch.randperm(len(images), generator=self.growth.generator)[:1024].to(images.device)]

    def learned_state(self) -> dict[str, Any]:
        """What was learned, for `use`."""
        return {"weights": [weights.detach() for weights in self.learned], "examples": self.examples}

    def use(self, learned_state: dict[str, Any]) -> None:
        """Use what was learned on a network of the same architecture."""
        self.examples = learned_state["examples"]
        with torch.no_grad():
            for weights, values in zip(self.learned, learned_state["weights"], strict=True):
                weights.copy_(values)

    def state(self) -> dict[str, Tensor]:
        """The larger network's state on the CPU, with running statistics computed from the training images."""
        with torch.no_grad():
            state = {**self.weights(), **self.buffers()}
        if self.growth.new.buffers:
            network = self.network.to_empty(device=self.device)
            network.load_state_dict(state, assign=True)
            # in equal parts, since a last batch of one image would have no variance
            update_bn(self.examples.to(self.device, self.dtype).tensor_split(-(-len(self.examples) // 128)), network)
            state = network.state_dict()
        return {name: tensor.detach().cpu() for name, tensor in state.items()}
