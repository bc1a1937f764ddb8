"""Expressivity bottleneck (Verbockhaven et al., 2024, TINY): the part of the wanted update that no layer can make.

At the outputs a of a layer the loss wants the update v = -dL_n/da for every image and position. The layer's weights can
only give D b, b its inputs with an entry 1 for the bias. The bottleneck is what is left,

    Psi_l = min over D of sum |v - D b|^2,      score = sum over the layers Psi_l / sum over the layers sum |v|^2.

A large bottleneck is cured by more units; what an expansion leaves is lost, so the expected sign is -1. Layers are
linear layers and convolutions without groups. It is 0 where a layer has more inputs than there are images and
positions, so many images are needed for wide layers.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import unfold

from mmbench.errors import ScoreError, UndefinedError
from mmbench.landscape.surface import Surface
from mmbench.metrics._proxy import hooked
from mmbench.metrics.base import METRICS, Estimate, Metric
from mmbench.metrics.subject import Subject

CUTOFF = 1e-10
"""Eigenvalues of the inputs' second moments below this share of the largest are rounding."""


@METRICS.register("expressivity_bottleneck")
class ExpressivityBottleneck(Metric):
    """Share of the wanted updates that the layers' own weights cannot give, in [0, 1]; exact, given the images."""

    expected_sign = -1

    images: int = Field(512, ge=1)
    """Training images used."""

    def measure(self, subject: Subject) -> Estimate:
        """The share; `details.total` is sum |v|^2 over images, positions and layers, per image."""
        surface = subject.surface(self.images)
        moments = _moments(surface)
        total = sum(float(wanted) for _, _, wanted in moments)
        if not total > 0:
            raise ScoreError("the gradients at the outputs of all layers are zero: no layer is wanted to change")
        left = sum(_left(*moment) for moment in moments)
        return Estimate(left / total, 0.0, details={"total": total / len(surface.images)})


Moments = tuple[Tensor, Tensor, Tensor]
"""sum b b', sum b v', sum |v|^2 over images and positions."""


def _moments(surface: Surface) -> list[Moments]:
    """Of every layer; a layer that is called twice counts once, as its weights do."""
    layers = [module for module in surface.model.modules() if isinstance(module, nn.Linear) or _plain(module)]
    calls: list[tuple[nn.Module, Tensor, Tensor, int]] = []
    found: dict[nn.Module, Moments] = {}

    def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        calls.append((module, inputs[0].detach(), output, output._version))

    with hooked(layers, keep):
        for share in surface.chunk_losses():
            if not calls:
                raise UndefinedError("the network calls no linear layer or convolution without groups")
            if any(output._version != version for *_, output, version in calls):
                raise UndefinedError(
                    "the network overwrites the outputs of its layers in place (x += y), but this metric needs them"
                )
            outputs = [output for *_, output, _ in calls]
            gradients = torch.autograd.grad(share * len(surface.images), outputs, materialize_grads=True)
            for (module, inputs, *_), gradient in zip(calls, gradients, strict=True):
                b, v = _rows(module, inputs, gradient)
                sums = b.T @ b, b.T @ v, v.square().sum()
                old = found.get(module, (0.0, 0.0, 0.0))
                found[module] = (old[0] + sums[0], old[1] + sums[1], old[2] + sums[2])
            calls.clear()
    return list(found.values())


def _plain(module: nn.Module) -> bool:
    return (
        isinstance(module, nn.Conv2d)
        and module.groups == 1
        and not isinstance(module.padding, str)
        and module.padding_mode == "zeros"
    )


def _rows(module: nn.Module, inputs: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """b and v, a row for each image and position, float64."""
    if isinstance(module, nn.Conv2d):
        patches = unfold(inputs, module.kernel_size, module.dilation, module.padding, module.stride)  # type: ignore[arg-type]
        inputs, gradient = patches.mT, gradient.flatten(2).mT
    b, v = inputs.double().reshape(-1, inputs.shape[-1]), -gradient.double().reshape(-1, gradient.shape[-1])
    return (torch.cat([b, b.new_ones(len(b), 1)], 1) if module.bias is not None else b), v


def _left(inputs: Tensor, mixed: Tensor, wanted: Tensor) -> float:
    """min over D of sum |v - D b|^2, by the normal equations."""
    values, vectors = torch.linalg.eigh(inputs)
    kept = values > CUTOFF * values[-1].clamp_min(torch.finfo(values.dtype).tiny)
    reached = ((vectors[:, kept].T @ mixed).square() / values[kept, None]).sum()
    return max(0.0, float(wanted - reached))
