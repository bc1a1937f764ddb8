"""Fisher potential: how much the loss would change if single channels were cut (Turner et al., 2020, BlockSwap).

sum over channels c of 1/2 mean over images n of (sum over positions of a_nc dL_n/da_nc)^2. Here a are the outputs of
every linear layer and convolution, including the classifier, with their biases. L_n is the cross-entropy of image n
alone: the gradient of the mean loss has a factor 1 / N, so squaring it would give a score that falls with the batch
size. A linear layer that is applied at several positions, such as tokens, has one channel per output feature. Layers
called outside their modules, as in `nn.MultiheadAttention`, are not seen. Where a layer's outputs do not have the
images in front (tokens first), each image goes through alone. Expected sign +1: more channels that matter.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mmbench.data.base import Split
from mmbench.errors import UndefinedError
from mmbench.landscape.surface import Surface
from mmbench.metrics._proxy import Proxy, hooked, images_per_pass
from mmbench.metrics.base import METRICS, Estimate, mean_and_error
from mmbench.metrics.subject import Subject

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@METRICS.register("fisher")
class Fisher(Proxy):
    """Fisher potential in evaluation mode; the standard error is over the images."""

    expected_sign = 1

    images: int = Field(256, ge=1)
    """Training images used."""

    def look(self, subject: Subject) -> Estimate:
        """The potential in squared nats."""
        surface = subject.surface(self.images)
        data, size = surface.images, images_per_pass(surface, lambda few: _potentials(surface, few))
        pairs = zip(data.images.split(size), data.labels.split(size), strict=True)
        return Estimate(*mean_and_error(torch.cat([_potentials(surface, Split(*pair)) for pair in pairs])))


def _potentials(surface: Surface, data: Split) -> Tensor:
    """1/2 sum over channels of (sum over positions of a dL_n/da)^2 for each image n: (n,), float64."""
    layers = [module for module in surface.model.modules() if isinstance(module, (nn.Linear, *CONVOLUTIONS))]
    outputs: list[tuple[Tensor, int, int]] = []

    def keep(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        spatial = len(module.kernel_size) if isinstance(module, CONVOLUTIONS) else 0
        a = output if output.requires_grad else output.detach().requires_grad_().clone()  # after frozen layers alone
        outputs.append((a, spatial, a._version))
        return a

    with hooked(layers, keep):
        loss = cross_entropy(surface.model(data.images).double(), data.labels, reduction="sum")
    if not outputs:
        raise UndefinedError("the network calls no linear layer or convolution, so it has no channels")
    if any(a._version != version for a, _, version in outputs):
        raise UndefinedError(
            "the network overwrites the outputs of its layers in place (x += y), but this metric needs them"
        )
    gradients = torch.autograd.grad(loss, [a for a, _, _ in outputs], materialize_grads=True)
    parts = []
    for (a, spatial, _), gradient in zip(outputs, gradients, strict=True):
        products = (a.detach() * gradient).movedim(-1 - spatial, -1)
        by_image = products.reshape(len(data), -1, products.shape[-1])
        parts.append(by_image.sum(1).double().square().sum(1) / 2)
    return torch.stack(parts).sum(0)
