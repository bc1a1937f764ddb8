"""Networks of one architecture trained at once, their weights stacked; or one after the other, where that is faster.

A small network's step on a GPU takes the time of launching its kernels, and K networks whose weights are one tensor
take no more launches than one. Where arithmetic decides, as on a CPU, stacking gains nothing
(`benchmarks/manifold.py`); on a GPU both ways are timed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy

from mmbench.data.base import Split
from mmbench.models.copies import copied
from mmbench.training.loop import History, clip, require_finite, train
from mmbench.training.recipes import Training

TRIED = 3
"""Steps that each way is timed for, after as many that are not."""

_stacking_won: dict[tuple[Any, ...], bool] = {}
"""What was found out in this process."""


def train_all(models: Sequence[nn.Module], data: Split, recipe: Training, generator: torch.Generator) -> list[History]:
    """Train networks of one architecture in place, in the way that is faster on their device.

    Arguments and errors as of `train`. The order of the images is that of trainings one after the other, and so is the
    result, up to rounding (and to the draws of dropout). Where torch is to be deterministic nothing is left to a clock.
    """
    gpu = data.labels.device.type == "cuda" and not torch.are_deterministic_algorithms_enabled()
    if len(models) > 1 and gpu and stacking_wins(models, data, recipe):
        return train_together(models, data, recipe, generator)
    return _one_by_one(models, data, recipe, generator)


def stacking_wins(models: Sequence[nn.Module], data: Split, recipe: Training) -> bool:
    """Whether some steps of all networks together take less time than one after the other, or can be made at all.

    Timed once for each architecture, number of networks, size of batches and device. Models and draws stay as they are.
    """
    shapes = tuple(parameter.shape for parameter in models[0].parameters())
    key = (type(models[0]), shapes, len(models), recipe.batch_size, data.images.shape[1:], data.images.device)
    if key not in _stacking_won:
        device = data.images.device
        trial = recipe.model_copy(update={"steps": TRIED, "warmup_steps": 0, "lr": 1e-9})  # does not diverge
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            try:
                together = _seconds(train_together, models, data, trial)
            except RuntimeError:  # a layer that cannot be batched, or memory
                _stacking_won[key] = False
            else:
                _stacking_won[key] = together < _seconds(_one_by_one, models, data, trial)
    return _stacking_won[key]


def _one_by_one(
    models: Sequence[nn.Module], data: Split, recipe: Training, generator: torch.Generator
) -> list[History]:
    return [train(model, data, recipe, generator) for model in models]


def _seconds(way: Any, models: Sequence[nn.Module], data: Split, recipe: Training) -> float:
    networks = [copied(model) for model in models]
    way(networks, data, recipe, torch.Generator())
    return sum(history.seconds for history in way(networks, data, recipe, torch.Generator()))


def train_together(
    models: Sequence[nn.Module], data: Split, recipe: Training, generator: torch.Generator
) -> list[History]:
    """Train networks of one architecture in place, each step one batched pass. Arguments and errors as of `train`."""
    start, first, count = time.perf_counter(), models[0], len(models)
    size = min(recipe.batch_size, len(data))
    orders = torch.stack([_batches(len(data), size, recipe.steps, generator) for _ in models], 1)
    orders = orders.to(data.labels.device)
    buffers = _stacked([dict(model.named_buffers()) for model in models])
    weights = _stacked([dict(model.named_parameters()) for model in models])
    trained = [name for name, parameter in first.named_parameters() if parameter.requires_grad]
    vector = torch.cat([weights[name].reshape(count, -1) for name in trained], 1)
    gradient = torch.zeros_like(vector)
    sizes = [weights[name][0].numel() for name in trained]
    for name, part in zip(trained, vector.split(sizes, 1), strict=True):
        weights[name] = part.view(weights[name].shape).detach().requires_grad_()
    leaves = [weights[name] for name in trained]

    def loss(weights: dict[str, Tensor], buffers: dict[str, Tensor], images: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(functional_call(first, (weights, buffers), (images,)), labels)

    batched = torch.vmap(loss, randomness="different")
    update = recipe.updater(vector, gradient)
    losses = torch.zeros(recipe.steps, count, device=vector.device)
    for model in models:
        model.train()
    for step, batch in enumerate(orders):
        with sdpa_kernel(SDPBackend.MATH):
            found = batched(weights, buffers, data.images[batch], data.labels[batch])
            slopes = torch.autograd.grad(found.sum(), leaves, materialize_grads=True)
        torch.cat([slope.reshape(count, -1) for slope in slopes], 1, out=gradient)
        losses[step] = found.detach()
        clip(gradient, recipe.clip_norm)
        update(recipe.learning_rate(step))
    for course, row in zip(losses.T, vector, strict=True):
        require_finite(course, weights=row)
    with torch.no_grad():
        for k, model in enumerate(models):
            for name, tensor in (*model.named_parameters(), *model.named_buffers()):
                tensor.copy_((weights if name in weights else buffers)[name][k])
            model.eval()
    seconds = (time.perf_counter() - start) / count
    return [History(course, seconds) for course in losses.T.contiguous()]


def _batches(count: int, size: int, steps: int, generator: torch.Generator) -> Tensor:
    """Indices of the images of each step (steps, size), in shuffled epochs as `train` draws them."""
    per_epoch = count // size
    epochs = [torch.randperm(count, generator=generator) for _ in range(0, steps, per_epoch)]
    return torch.cat([order[: per_epoch * size].view(per_epoch, size) for order in epochs])[:steps]


def _stacked(states: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([state[name].detach() for state in states]) for name in states[0]}
