"""Fisher potential: how much the loss would change if single channels were cut (Turner et al., 2020, BlockSwap).

sum over channels c of 1/2 mean over images n of (sum over positions of a_nc dL_n/da_nc)^2. Here a are the outputs of
every linear layer and convolution, including the classifier, with their biases. L_n is the cross-entropy of image n
alone: the gradient of the mean loss has a factor 1 / N, so squaring it would give a score that falls with the batch
size. A linear layer that is applied at several positions, such as tokens, has one channel per output feature. Layers
called outside their modules, as in `nn.MultiheadAttention`, are not seen. Expected sign +1: more channels that matter.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from mmbench.errors import UndefinedError
from mmbench.metrics._proxy import Proxy, hooked
from mmbench.metrics.base import METRICS, Estimate, mean_and_error
from mmbench.metrics.subject import Subject


@METRICS.register("fisher")
class Fisher(Proxy):
    """Fisher potential in evaluation mode; the standard error is over the images."""

    expected_sign = 1

    images: int = Field(256, ge=1)
    """Training images used."""

    def look(self, subject: Subject) -> Estimate:
        """The potential in squared nats."""
        surface = subject.surface(self.images)
        convolutions = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
        layers = [module for module in surface.model.modules() if isinstance(module, (nn.Linear, *convolutions))]
        outputs: list[tuple[Tensor, bool, int]] = []

        def keep(module: nn.Module, inputs: object, output: Tensor) -> None:
            outputs.append((output, isinstance(module, convolutions), output._version))

        potentials = []
        with hooked(layers, keep):
            for share, labels in zip(surface.chunk_losses(), surface.images.labels.split(surface.chunk), strict=True):
                if not outputs:
                    raise UndefinedError("the network calls no linear layer or convolution, so it has no channels")
                if any(a._version != version for a, _, version in outputs):
                    raise UndefinedError(
                        "the network overwrites the outputs of its layers in place (x += y), but this metric needs them"
                    )
                gradients = torch.autograd.grad(
                    share * len(surface.images), [a for a, _, _ in outputs], materialize_grads=True
                )
                pairs = zip(outputs, gradients, strict=True)
                parts = [_potential(a.detach() * g, len(labels), convolution) for (a, convolution, _), g in pairs]
                potentials.append(torch.stack(parts).sum(0))
                outputs.clear()
        return Estimate(*mean_and_error(torch.cat(potentials)))


def _potential(products: Tensor, images: int, convolution: bool) -> Tensor:
    """1/2 sum over channels of (sum over positions)^2, for each image: (images,), float64."""
    by_channel = products.flatten(2) if convolution else products.reshape(images, -1, products.shape[-1]).mT
    return by_channel.sum(2).double().square().sum(1) / 2
