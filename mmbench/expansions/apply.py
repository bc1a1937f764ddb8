"""Apply an expansion to a network.

The larger network is built by its family. Its state is then filled in place, tensor by tensor, from the small network's
state through the two axis tables. The given network is never changed.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import torch
from torch import nn

from mmbench.data.base import InputShape
from mmbench.errors import ConfigError, UndefinedError
from mmbench.expansions.base import EXPANSIONS, Expansion, Growth
from mmbench.models.base import Architecture
from mmbench.models.parts import unwrapped
from mmbench.models.reading import architecture_of
from mmbench.models.skeleton import skeleton
from mmbench.models.traits import GROWN, inherit, keep_preprocessing

Examples = tuple[torch.Tensor, torch.Tensor]

ONE_AT_A_TIME = threading.Lock()
"""Networks are initialised from torch's global generator, which all threads share."""


def expand(
    model: nn.Module, expansion: str | Expansion, *, data: Examples | None = None, seed: int = 0, **options: Any
) -> nn.Module:
    """Expand a network into a larger one.

    Args:
        model: a network of one of the families in `mmbench.models`, such as timm's; it is not changed.
        expansion: the name of an operator, with its options as keywords, or an operator.
        data: training images (N, C, H, W) and labels (N,), for the operators that need them.
        seed: of all random draws; the global random state is not changed.
        **options: of the operator, such as `factor=2.0` or `budget=2.0`.

    Returns:
        The larger network, with the device, the dtype and the modes (training or evaluation) of `model`.

    Raises:
        ConfigError: an unknown operator or option, a value out of its range, or data that are missing or wrong.
        UndefinedError: the network belongs to no known family or has mixed precision, or the operator is not defined
            for it.
        ScoreError: the values that an operator learns from data are not finite.
    """
    return Expander(model, expansion, data=data, seed=seed, **options)(model)


class Expander:
    """Expands several networks of one architecture in the same way, such as a model at several times of its training.

    All of them get the same random draws. An operator that learns (LiGO's matrices) learns once, from the first model.
    Values that depend on a network's weights and gradients are computed for each network.
    """

    def __init__(
        self,
        model: nn.Module,
        expansion: str | Expansion,
        *,
        data: Examples | None = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        """Check the options and compute the larger architecture; arguments and errors are those of `expand`."""
        if not isinstance(expansion, (str, Expansion)):
            raise ConfigError(f"expansion must be the name of an operator or an operator, not {expansion!r}")
        if type(seed) is not int or not 0 <= seed < 2**63:
            raise ConfigError(f"seed = {seed!r} is not allowed: must be an integer >= 0 and < 2**63")
        if options and not isinstance(expansion, str):
            raise ConfigError(f"an operator already has its options: {', '.join(options)} cannot be given as well")
        if {"factor", "budget"} <= options.keys() and options.get("solve") != "depth":
            raise ConfigError("factor and budget both set the size of the network; give one of them")
        operator = EXPANSIONS.create({"name": expansion, **options}) if isinstance(expansion, str) else expansion
        model = unwrapped(model)
        self._base, self._shape = architecture_of(model)
        self._entry = {"expansion": operator.options(), "from": self._base.describe()}
        _refuse_mixed(model)
        self._steps: list[tuple[Expansion, Architecture, dict[str, Any]]] = [
            (step, target, {}) for step, target in operator.steps(self._base, self._shape)
        ]
        self._learns = any(step.learns for step, *_ in self._steps)
        self._model, self._seed = model, seed
        looks = any(step.needs_data for step, *_ in self._steps)
        self._data = _checked(data, operator.name, self._base, self._shape) if looks else None

    def __call__(self, model: nn.Module) -> nn.Module:
        """A larger network grown from `model`, which has the architecture of the first model."""
        given = model = unwrapped(model)
        learns, self._learns = self._learns, False
        if learns and model is not self._model:
            self(self._model)  # the operator learns from the first model
        base = self._base
        with torch.inference_mode(False):  # a network created in inference mode cannot be trained
            for step, target, learned in self._steps:
                model = _grow(model, step, base, target, self._shape, self._data, self._seed, learned)
                base = target
        setattr(model, GROWN, [*getattr(given, GROWN, []), self._entry])
        return model


def _checked(data: Any, name: str, base: Architecture, shape: InputShape) -> Examples:
    """The images and labels; `ConfigError` unless the network can be trained on them."""
    if not isinstance(data, (tuple, list)) or len(data) != 2 or not all(isinstance(d, torch.Tensor) for d in data):
        raise ConfigError(f"{name} needs training data: give data=(images, labels), two tensors")
    images, labels = data
    whole = labels.dtype in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
    dense = images.layout == labels.layout == torch.strided and not images.is_complex()
    if not whole or not dense or labels.dim() != 1 or labels.shape != images.shape[:1] or not len(labels):
        raise ConfigError(
            "data must be images (N, C, H, W) and integer labels (N,), at least one: got images "
            f"{tuple(images.shape)} and labels {tuple(labels.shape)} of {labels.dtype}"
        )
    if not 0 <= int(labels.min()) <= int(labels.max()) < shape.classes:
        raise ConfigError(
            f"data has labels from {labels.min()} to {labels.max()}; the network has classes 0 to {shape.classes - 1}"
        )
    try:
        skeleton(base, shape).eval()(torch.empty(1, *images.shape[1:], device="meta"))
    except Exception as error:  # layers raise many types
        raise ConfigError(f"data does not fit the network: {str(error).splitlines()[0]}") from None
    return images, labels.long()


def _refuse_mixed(model: nn.Module) -> None:
    """Raise `UndefinedError`, naming a tensor, if the tensors have several dtypes or no values."""
    state = {name: tensor for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
    first, reference = next(iter(state.items()))
    for name, tensor in state.items():
        if tensor.is_meta:
            raise UndefinedError(f"tensor {name!r} is on the meta device: the network has no weights to expand")
        if tensor.dtype != reference.dtype:
            raise UndefinedError(
                f"the network has tensors of several precisions: {first!r} is {reference.dtype}, {name!r} is "
                f"{tensor.dtype}; convert it to one, as by model.float()"
            )


def _grow(
    model: nn.Module,
    operator: Expansion,
    base: Architecture,
    target: Architecture,
    shape: InputShape,
    data: Examples | None,
    seed: int,
    learned: dict[str, Any],
) -> nn.Module:
    reference = next(model.parameters())
    with ONE_AT_A_TIME, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every device, too
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
        learned=learned,
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
    keep_preprocessing(model, large, grown=target != base)
    inherit(model, large, partial(_origin, growth))
    _keep_modes(growth, large)
    return large.to(reference.device)


def _origin(growth: Growth, name: str) -> str:
    """The module of the small network that one of the large network continues or, in a new block, follows."""
    block, rest = growth.place(f"{name}.")
    blocks = [*growth.arrangement]
    before = reversed(blocks[: blocks.index(block) + 1]) if block else iter(())
    origin = next((old for new in before if (old := growth.arrangement[new]) is not None), "")
    return (origin + rest).strip(".")


def _keep_modes(growth: Growth, large: nn.Module) -> None:
    """Copy from the small network the mode of each module (training or evaluation) and which parameters are trainable.

    A module without a counterpart gets the mode of the whole network, and a parameter without one is trainable.
    """
    modes = {name: module.training for name, module in growth.model.named_modules()}
    for name, module in large.named_modules():
        block, rest = growth.place(f"{name}.")
        origin = growth.arrangement[block] if block else ""
        module.training = modes[""] if origin is None else modes.get((origin + rest).strip("."), modes[""])
    trainable = {name: parameter.requires_grad for name, parameter in growth.model.named_parameters()}
    for name, parameter in large.named_parameters():
        parameter.requires_grad_(trainable.get(growth.source(name) or "", True))
