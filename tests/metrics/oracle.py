"""Small float64 networks and their dense Hessians, by central differences of gradients: without double backward."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from mmbench.data.base import InputShape, Split
from mmbench.models.base import MODELS

SHAPE = InputShape(channels=1, image_size=4, classes=3)
TINY = {
    "mlp": {"hidden": (5, 4)},
    "resnet": {"channels": (2, 3), "layers": (1, 1)},
    "vit": {"embed_dim": 4, "heads": 2, "hidden": 4, "layers": 1, "patch_size": 2},
    "mixer": {"embed_dim": 4, "token_hidden": 3, "channel_hidden": 6, "layers": 1, "patch_size": 2},
}


@cache
def problem(family: str, count: int = 12) -> tuple[nn.Module, Split]:
    """A network away from all special values, and images that it has not seen. Not to be changed."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        data = Split(torch.randn(count, 1, 4, 4, dtype=torch.float64), torch.arange(count) % 3)
        model = MODELS.create({"name": family, **TINY[family]}).build(SHAPE).double()
        with torch.no_grad():
            model.train()(data.images)  # running statistics other than 0 and 1
            for parameter in model.parameters():
                parameter += 0.3 * torch.randn_like(parameter)
    return model.eval(), data


@cache
def hessian(family: str, count: int = 12) -> Tensor:
    """The dense Hessian of a problem."""
    return dense(*problem(family, count))


def dense(model: nn.Module, data: Split) -> Tensor:
    """(P, P), with the error of the differences, about 1e-8."""
    weights, step = list(model.parameters()), 1e-5
    start = parameters_to_vector(weights).detach().clone()

    def gradient(at: Tensor) -> Tensor:
        vector_to_parameters(at, weights)
        loss = cross_entropy(model(data.images), data.labels)
        return parameters_to_vector(torch.autograd.grad(loss, weights))

    units = step * torch.eye(len(start), dtype=torch.float64)
    rows = torch.stack([(gradient(start + unit) - gradient(start - unit)) / (2 * step) for unit in units]).detach()
    vector_to_parameters(start, weights)
    return (rows + rows.T) / 2


def jacobian(family: str, count: int = 12) -> Tensor:
    """(N, C, P) of the logits."""
    model, data = problem(family, count)
    weights = list(model.parameters())
    rows = [
        torch.cat([g.flatten() for g in torch.autograd.grad(z, weights, retain_graph=True, materialize_grads=True)])
        for z in model(data.images).flatten()
    ]
    return torch.stack(rows).view(count, -1, len(rows[0]))
