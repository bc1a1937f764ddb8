"""Train networks of one architecture together with stacked weights, or one after the other if that is faster.

On a GPU, launching kernels dominates a step of a small network, and K networks with stacked weights need no more
launches than one. On a CPU the arithmetic dominates, and stacking gains nothing. So on a GPU both methods are timed,
and the faster one is used.
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
"""Steps for which each method is timed, after as many steps of warm-up."""

_stacking_won: dict[tuple[Any, ...], bool] = {}
"""Results of the timings in this process."""


def train_all(models: Sequence[nn.Module], data: Split, recipe: Training, generator: torch.Generator) -> list[History]:
    """Train networks of one architecture in place, by the method that is faster on their device.

    Both methods use the same order of images and give the same result, except for rounding and the draws of dropout.
    With torch's deterministic algorithms, the networks are always trained one after the other, since timings are not
    deterministic.

    Args:
        models: K networks with the same modules, on the data's device.
        data: the training images and labels.
        recipe: optimiser, schedule, steps.
        generator: a CPU generator for the order of the images, drawn from once per network and epoch.

    Returns:
        One history per network, in order.

    Raises:
        DivergedError: as in `train`, for the first network that diverges.
    """
    gpu = data.labels.device.type == "cuda" and not torch.are_deterministic_algorithms_enabled()
    if len(models) > 1 and gpu and stacking_wins(models, data, recipe):
        return train_together(models, data, recipe, generator)
    return _one_by_one(models, data, recipe, generator)


def stacking_wins(models: Sequence[nn.Module], data: Split, recipe: Training) -> bool:
    """Whether training with stacked weights is possible and faster than one network after the other.

    Some steps are timed, once for each architecture, number of networks, batch size and device.

    Args:
        models: K networks with the same modules; neither they nor the global random state change.
        data: the training images and labels.
        recipe: optimiser and batch size.

    Returns:
        False also if a layer cannot be batched or there is too little memory.
    """
    shapes = tuple(parameter.shape for parameter in models[0].parameters())
    key = (type(models[0]), shapes, len(models), recipe.batch_size, data.images.shape[1:], data.images.device)
    if key not in _stacking_won:
        device = data.images.device
        trial = recipe.model_copy(
            update={"steps": TRIED, "epochs": None, "warmup_steps": 0, "lr": 1e-9}
        )  # does not diverge
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            try:
                together = _seconds(train_together, models, data, trial)
            except RuntimeError:  # a layer that cannot be batched, or too little memory
                _stacking_won[key] = False
            else:
                _stacking_won[key] = together < _seconds(_one_by_one, models, data, trial)
    return _stacking_won[key]


def _one_by_one(
    models: Sequence[nn.Module], data: Split, recipe: Training, generator: torch.Generator
) -> list[History]:
    return [train(model, data, recipe, generator) for model in models]


def _seconds(method: Any, models: Sequence[nn.Module], data: Split, recipe: Training) -> float:
    networks = [copied(model) for model in models]
    method(networks, data, recipe, torch.Generator())
    return sum(history.seconds for history in method(networks, data, recipe, torch.Generator()))


def train_together(
    models: Sequence[nn.Module], data: Split, recipe: Training, generator: torch.Generator
) -> list[History]:
    """Train networks of one architecture in place; each step is one batched pass through all of them.

    Args:
        models: K networks with the same modules, on the data's device.
        data: the training images and labels.
        recipe: optimiser, schedule, steps.
        generator: a CPU generator for the order of the images, drawn from once per network and epoch.

    Returns:
        One history per network, in order; the seconds are the total divided by K.

    Raises:
        DivergedError: as in `train`, for the first network in order that diverges; no network is changed then.
    """
    start, first, count = time.perf_counter(), models[0], len(models)
    recipe = recipe.in_steps(len(data))
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

    def loss(state: tuple[dict[str, Tensor], dict[str, Tensor]], batch: tuple[Tensor, Tensor]) -> Tensor:
        images, labels = batch
        return cross_entropy(functional_call(first, state, (images,)), labels)

    batched_loss = torch.vmap(loss, randomness="different")
    updater = recipe.updater(vector, gradient)
    losses = torch.zeros(recipe.steps, count, device=vector.device)
    for model in models:
        model.train()
    for step, batch in enumerate(orders):
        with sdpa_kernel(SDPBackend.MATH):
            loss_of_each = batched_loss((weights, buffers), (data.images[batch], data.labels[batch]))
            gradients = torch.autograd.grad(loss_of_each.sum(), leaves, materialize_grads=True)
        torch.cat([part.reshape(count, -1) for part in gradients], 1, out=gradient)
        losses[step] = loss_of_each.detach()
        clip(gradient, recipe.clip_norm)
        updater.apply(recipe.learning_rate(step))
    for own_losses, own_weights in zip(losses.T, vector, strict=True):
        require_finite(own_losses, weights=own_weights)
    with torch.no_grad():
        for k, model in enumerate(models):
            for name, tensor in (*model.named_parameters(), *model.named_buffers()):
                tensor.copy_((weights if name in weights else buffers)[name][k])
            model.eval()
    seconds = (time.perf_counter() - start) / count
    return [History(own_losses, seconds) for own_losses in losses.T.contiguous()]


def _batches(count: int, size: int, steps: int, generator: torch.Generator) -> Tensor:
    """Indices of the images of each step, (steps, size), in shuffled epochs as in `train`."""
    per_epoch = count // size
    epochs = [torch.randperm(count, generator=generator) for _ in range(0, steps, per_epoch)]
    return torch.cat([order[: per_epoch * size].view(per_epoch, size) for order in epochs])[:steps]


def _stacked(states: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors of K networks, each (K, ...)."""
    return {name: torch.stack([state[name].detach() for state in states]) for name in states[0]}
