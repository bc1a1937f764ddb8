"""`gradmax`: new units with zero incoming weights and the largest gradient (Evci et al., 2022, arXiv:2201.05125).

A new unit with incoming weights w = 0 and outgoing weights v gets the gradient dL/dw = phi'(0) v^T M, with
M = sum over examples (and patches or pixels) of dL/dy x^T, where x is the input of the unit and y the vector that it is
added to. For orthonormal v the norm of the gradient is largest if the v are the left singular vectors of M with the
largest singular values. Each v gets the mean length of the old outgoing weights. If there are more new units than
singular vectors, the remaining v are random.

The function is kept since phi(0) = 0. The gradient needs phi'(0) != 0, which holds for GELU but not for ReLU. In a
plain network with ReLU, a new unit therefore gets a bias of one, and its constant output v is subtracted from the bias
of the next layer. With batch norm between the convolutions of a residual block this is not possible: the operator is
not defined there.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import nn
from torch.nn.functional import cross_entropy

from mmbench.errors import ScoreError
from mmbench.expansions.base import EXPANSIONS, Filled, Growth
from mmbench.expansions.sized import Sized
from mmbench.expansions.widening import kept_entries, put
from mmbench.models.base import Architecture


@EXPANSIONS.register("gradmax")
class GradMax(Sized):
    """New hidden units with the largest gradient."""

    preserves = "exact"
    families = ("mlp", "cnn", "vit", "mixer", "convnext")
    needs_data = True

    axis: Literal["hidden"] = "hidden"
    """Hidden units only."""
    images: int = Field(256, ge=1)
    """Number of training images for the gradient."""

    def because(self, base: Architecture) -> str:
        """Batch norm with ReLU prevents it."""
        return ", where batch norm and ReLU leave units of zero incoming weights without a gradient"

    def fill(self, growth: Growth) -> Filled:
        """Zeros as incoming and singular vectors as outgoing weights."""
        grown = [g for g, group in growth.new.groups.items() if group.size != growth.old.groups[g].size]
        layers = {group: _layers(growth, group) for group in grown}
        moments = self._moments(growth, layers)
        if not all(moment.isfinite().all() for moment in moments.values()):
            raise ScoreError("gradmax: the gradient of the loss is not finite; check the images and the weights")
        outgoing = {
            f"{layers[group][1]}.weight": _outgoing(growth, f"{layers[group][1]}.weight", group, moment)
            for group, moment in moments.items()
        }
        on = 1.0 if growth.base.plain else 0.0
        for name, fresh in growth.fresh.items():
            axes = list(zip(growth.old.tensors[name], growth.new.tensors[name], strict=True))
            kept = [kept_entries(*pair, growth.old, growth.new) for pair in axes]
            fresh.fill_(on if fresh.dim() == 1 else 0.0)
            put(fresh, kept, growth.small[name])
            if (new := outgoing.get(name)) is not None:
                fresh.narrow(1, len(kept[1]), new.shape[1]).narrow(0, 0, len(kept[0])).copy_(
                    new.view(new.shape + (1,) * (fresh.dim() - 2))
                )
            written = outgoing.get(name.removesuffix("bias") + "weight")
            if name.endswith("bias") and written is not None:
                fresh[: len(kept[0])] = (growth.small[name].double() - on * written.sum(1)).to(fresh.dtype)
            yield name, fresh

    def _moments(self, growth: Growth, layers: dict[str, tuple[str, str]]) -> dict[str, torch.Tensor]:
        """M of every group, (written, read), in float64 on the CPU."""
        assert growth.data is not None
        images, labels = growth.data
        chosen = torch.randperm(len(images), generator=growth.generator)[: self.images].to(images.device)
        parameter = next(growth.model.parameters())
        read: dict[str, torch.Tensor] = {}
        written: dict[str, torch.Tensor] = {}
        hooks = []

        for group, (producer, consumer) in layers.items():
            hooks += [
                growth.model.get_submodule(producer).register_forward_hook(
                    lambda layer, args, _, group=group: read.update({group: _features(args[0], layer)})
                ),
                growth.model.get_submodule(consumer).register_forward_hook(
                    # the outputs of a frozen network have no gradient by default
                    lambda _, __, output, group=group: written.update({group: output.requires_grad_()})
                ),
            ]
        try:
            with torch.enable_grad():
                logits = growth.model(images[chosen].to(parameter.device, parameter.dtype))
                loss = cross_entropy(logits, labels[chosen].to(parameter.device))
                gradients = torch.autograd.grad(loss, [written[group] for group in layers])
        finally:
            for hook in hooks:
                hook.remove()
        return {
            group: _features(gradient, growth.model.get_submodule(layers[group][1])).T @ read[group]
            for group, gradient in zip(layers, gradients, strict=True)
        }


def _layers(growth: Growth, group: str) -> tuple[str, str]:
    """The layers that write a group of hidden units and read it."""
    tensors = growth.old.tensors.items()
    (producer,) = [n for n, axes in tensors if len(axes) > 1 and axes[0].role == "out" and group in axes[0].groups]
    (consumer,) = [n for n, axes in tensors if len(axes) > 1 and axes[1].role == "in" and group in axes[1].groups]
    return producer.removesuffix(".weight"), consumer.removesuffix(".weight")


def _features(values: torch.Tensor, layer: nn.Module) -> torch.Tensor:
    """Inputs or outputs of a layer as (examples and positions, features), in float64 on the CPU."""
    last = values.movedim(1, -1) if values.dim() == 4 and hasattr(layer, "kernel_size") else values
    return last.detach().flatten(0, -2).double().cpu()


def _outgoing(growth: Growth, name: str, group: str, moment: torch.Tensor) -> torch.Tensor:
    """The new units' outgoing weights (written, new units)."""
    old = growth.small[name].double().flatten(1)
    new = growth.new.groups[group].size - growth.old.groups[group].size
    vectors = torch.linalg.svd(moment, full_matrices=False).U[:, :new]
    rest = torch.randn(len(vectors), new - vectors.shape[1], generator=growth.generator, dtype=torch.float64)
    return torch.cat([vectors, rest / rest.norm(dim=0)], 1) * old.norm(dim=0).mean()
