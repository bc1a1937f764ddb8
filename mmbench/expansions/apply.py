"""Apply an expansion to a network.

The larger network is built by its family's factory and its state is then filled in place, tensor by tensor, from the
small network's state through the two axis tables. The given network is never changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmbench.errors import ConfigError
from mmbench.expansions.base import Expansion, Growth
from mmbench.models.reading import architecture_of
from mmbench.registry import EXPANSIONS

if TYPE_CHECKING:
    import torch
    from torch import nn

    from mmbench.data.base import InputShape
    from mmbench.models.base import Architecture

    Examples = tuple[torch.Tensor, torch.Tensor]

PREPROCESSING = ("pretrained_cfg", "default_cfg")
"""Where timm's networks keep the mean, standard deviation and size of the images that they were trained on."""


def expand(
    model: nn.Module, expansion: str | Expansion, *, data: Examples | None = None, seed: int = 0, **options: Any
) -> nn.Module:
    """A larger network grown from `model`, on its device, in its dtype and mode. `model` is left as it is.

    Args:
        model: a network of one of the families in `mmbench.models`, such as timm makes them.
        expansion: the name of an operator, with its options as keywords, or an operator.
        data: training images (N, C, H, W) and labels (N,), for the operators that need them.
        seed: of all random draws; the global random state is left as it was.
        options: the operator's options, such as `factor=2.0` or `budget=2.0`.

    Raises:
        ConfigError: an unknown operator or option, a value out of its range, or data missing or wrong.
        UndefinedError: the network is of no known family, or the operator is not defined for it.
    """
    if options and not isinstance(expansion, str):
        raise ConfigError(f"an operator has its options already: {', '.join(options)} cannot be given beside it")
    if {"factor", "budget"} <= options.keys():
        raise ConfigError("factor and budget both say how large the network becomes; give one of them")
    operator = EXPANSIONS.create({"name": expansion, **options}) if isinstance(expansion, str) else expansion
    base, shape = architecture_of(model)
    steps = operator.steps(base, shape)
    if any(step.needs_data for step, _ in steps):
        data = _checked(data, operator.name, base, shape)
    for step, target in steps:
        model = _grow(model, step, base, target, shape, data, seed)
        base = target
    return model


def _checked(data: Any, name: str, base: Architecture, shape: InputShape) -> Examples:
    """The images and labels, which the operator looks at; `ConfigError` where the network cannot be trained on them."""
    import torch

    from mmbench.models._skeleton import skeleton

    if not isinstance(data, (tuple, list)) or len(data) != 2 or not all(isinstance(d, torch.Tensor) for d in data):
        raise ConfigError(f"{name} looks at training data: give data=(images, labels), two tensors")
    images, labels = data
    whole = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    if not whole or labels.shape != images.shape[:1] or not len(labels):
        raise ConfigError(
            "data must be images (N, C, H, W) and integer labels (N,), at least one: got images "
            f"{tuple(images.shape)} and labels {tuple(labels.shape)} of {labels.dtype}"
        )
    if not 0 <= int(labels.min()) <= int(labels.max()) < shape.classes:
        raise ConfigError(
            f"data has labels from {labels.min()} to {labels.max()}; the network has the classes 0 to "
            f"{shape.classes - 1}"
        )
    try:
        skeleton(base, shape).eval()(torch.empty(1, *images.shape[1:], device="meta"))
    except Exception as error:  # whatever its layers say
        raise ConfigError(f"data does not fit the network: {str(error).splitlines()[0]}") from None
    return images, labels.long()


def _grow(
    model: nn.Module,
    operator: Expansion,
    base: Architecture,
    target: Architecture,
    shape: InputShape,
    data: Examples | None,
    seed: int,
) -> nn.Module:
    import torch

    reference = next(model.parameters())
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach every device, too
        large = target.build(shape).to(reference.dtype)
    state = large.state_dict()
    growth = Growth(
        base=base,
        target=target,
        shape=shape,
        small={name: tensor.detach().cpu() for name, tensor in model.state_dict().items()},
        fresh=state,
        arrangement=operator.arrangement(base, target, shape),
        generator=torch.Generator().manual_seed(seed),
        model=model,
        data=data,
    )
    unfilled = set(state)
    for name, tensor in operator.fill(growth):
        if tensor.shape != state[name].shape:  # copy_ would broadcast
            raise AssertionError(f"{operator.name} fills {name} with {tuple(tensor.shape)}")
        if tensor is not state[name]:
            state[name].copy_(tensor)
        unfilled.remove(name)
    if unfilled:
        raise AssertionError(f"{operator.name} leaves {', '.join(sorted(unfilled))} unfilled")
    for attribute in PREPROCESSING:
        if hasattr(model, attribute):
            setattr(large, attribute, getattr(model, attribute))
    return large.train(model.training).to(reference.device)
