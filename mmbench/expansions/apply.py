"""Apply an expansion to a network.

The larger network is built by its family. Its state is then filled in place, tensor by tensor, from the small network's
state through the two axis tables. The given network is never changed.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from mmbench.arguments import whole
from mmbench.data.base import InputShape
from mmbench.data.given import pair_of
from mmbench.errors import ConfigError, UndefinedError
from mmbench.expansions.base import EXPANSIONS, Expansion, Growth
from mmbench.models.base import Architecture
from mmbench.models.copies import copied, tied
from mmbench.models.parts import unwrapped
from mmbench.models.reading import architecture_of
from mmbench.models.skeleton import skeleton
from mmbench.models.traits import GROWN, inherit, keep_preprocessing

Examples = tuple[torch.Tensor, torch.Tensor]

ONE_AT_A_TIME = threading.Lock()
"""Networks are initialised from torch's global generator, which all threads share."""
SWITCHES = ("grad_checkpointing", "fused_attn", "inplace")
"""Attributes of timm's modules that decide how something is computed, but not what."""


def expand(
    model: nn.Module,
    expansion: str | Mapping[str, Any] | Expansion,
    *,
    data: Any = None,
    seed: int = 0,
    **options: Any,
) -> nn.Module:
    """Expand a network into a larger one.

    Args:
        model: a network of one of the families in `mmbench.models`, such as timm's; it is not changed.
        expansion: the name of an operator, with its options as keywords; or a dictionary of both; or an operator.
        data: training images (N, C, H, W) and labels (N,), for the operators that need them; or a data set of such
            examples, or a loader of batches.
        seed: of all random draws; the global random state is not changed.
        **options: of the operator, such as `factor=2.0` or `budget=2.0`.

    Returns:
        The larger network. It has the device, the dtype, the memory format, the modes (training or evaluation), the
        gradient checkpointing and the frozen parameters of `model`; what is new is trainable where it is a whole block,
        else as what it grew from. Its attribute `expansion` is a sentence that tells what grew.

    Raises:
        ConfigError: an unknown operator or option, a value out of its range, or data that are missing or wrong.
        UndefinedError: the network belongs to no known family, has mixed precision, shared tensors or values that are
            not finite, or the operator is not defined for it.
        ScoreError: the values that an operator learns from data are not finite.
    """
    expander = Expander(model, expansion, data=data, seed=seed, **options)
    large = expander(model)
    large.expansion = expander.summary(model, large)  # type: ignore[assignment]
    return large


class Expander:
    """Expands several networks of one architecture in the same way, such as a model at several times of its training.

    All of them get the same random draws. An operator that learns (LiGO's matrices) learns once, from the first model.
    Values that depend on a network's weights and gradients are computed for each network.
    """

    def __init__(
        self,
        model: nn.Module,
        expansion: str | Mapping[str, Any] | Expansion,
        *,
        data: Any = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        """Check the options and compute the larger architecture; arguments and errors are those of `expand`."""
        seed = whole("seed", seed)
        if options and not isinstance(expansion, str):
            raise ConfigError(f"an operator already has its options: {', '.join(options)} cannot be given as well")
        if "name" in options:
            raise ConfigError(f"two operators are given, {expansion} and name = {options['name']}; give one of them")
        if {"factor", "budget"} <= options.keys() and options.get("solve") != "depth":
            raise ConfigError("factor and budget both set the size of the network; give one of them")
        model = unwrapped(model)
        if isinstance(model, nn.Module):
            _refuse_tied(model)  # a reader of the architecture would stumble over a shared module
        self._base, self._shape = architecture_of(model)
        named = {"name": expansion, **options} if isinstance(expansion, str) else expansion
        self._operator = EXPANSIONS.made(named, Expansion)  # type: ignore[type-abstract]
        self._entry = {"expansion": self._operator.options(), "from": self._base.describe()}
        _refuse_unsound(model)
        self._steps: list[tuple[Expansion, Architecture, dict[str, Any]]] = [
            (step, target, {}) for step, target in self._operator.steps(self._base, self._shape)
        ]
        self._learns = any(step.learns for step, *_ in self._steps)
        self._model, self._seed = model, seed
        looks = any(step.needs_data for step, *_ in self._steps)
        self._data = _checked(data, self._operator.name, self._base, self._shape) if looks else None

    def __call__(self, model: nn.Module) -> nn.Module:
        """A larger network grown from `model`, which has the architecture of the first model."""
        given = model = unwrapped(model)
        learns, self._learns = self._learns, False
        if learns and model is not self._model:
            self(self._model)  # the operator learns from the first model
        base = self._base
        if model is not self._model:
            _refuse_tied(model)
            _refuse_unsound(model)
        with torch.inference_mode(False):  # a network created in inference mode cannot be trained
            for step, target, learned in self._steps:
                model = _grow(model, step, base, target, self._shape, self._data, self._seed, learned)
                base = target
        setattr(model, GROWN, [*getattr(given, GROWN, []), self._entry])
        return model

    def summary(self, small: nn.Module, large: nn.Module) -> str:
        """What grew, in a sentence: sizes, parameters, and the measured change of the logits of random images.

        Args:
            small: a network that was expanded.
            large: the larger one, before any training.

        Returns:
            Such as "net2wider width f=2 of a vit: heads 3 -> 6, ...; 5,000 -> 20,000 parameters (4.00x); ...".
        """
        target = self._steps[-1][1]
        before, after = self._base.sizes(), target.sizes()
        grown = [f"{name} {_shown(old)} -> {_shown(after[name])}" for name, old in before.items() if old != after[name]]
        counts = self._base.parameters(self._shape), target.parameters(self._shape)
        first, second = _logits(copied(small), self._shape), _logits(large, self._shape)
        return (
            f"{self._operator.label} of a {self._base.name}: {', '.join(grown) or 'nothing grew'}; {counts[0]:,} -> "
            f"{counts[1]:,} parameters ({counts[1] / counts[0]:.2f}x); the logits of two random images, up to "
            f"{float(first.abs().max()):.1e}, change by up to {float((second - first).abs().max()):.1e}"
        )


def _checked(data: Any, name: str, base: Architecture, shape: InputShape) -> Examples:
    """The images and labels; `ConfigError` unless the network can be trained on them."""
    if data is None:
        raise ConfigError(f"{name} needs training data: give data=(images, labels), two tensors")
    images, labels = pair_of(data)
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


def _shown(size: Any) -> str:
    return ",".join(map(str, size)) if isinstance(size, tuple) else str(size)


def _logits(model: nn.Module, shape: InputShape) -> torch.Tensor:
    """The logits (2, classes) of two random images in evaluation mode, in float64; the modes are left as they are."""
    modes, reference = [(module, module.training) for module in model.modules()], next(model.parameters())
    x = torch.randn(2, shape.channels, *[shape.image_size] * 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = model.eval()(x.to(reference.device, reference.dtype)).double()
    for module, training in modes:
        module.training = training
    return logits


def _refuse_tied(model: nn.Module) -> None:
    """Raise `UndefinedError`, naming both, if two tensors are one, since the larger network would have two."""
    for first, second in tied(model):
        raise UndefinedError(
            f"tensors {first!r} and {second!r} are one in memory, a tie that an expansion would not keep: give the "
            "second its own, as by module.weight = torch.nn.Parameter(module.weight.detach().clone())"
        )


def _refuse_unsound(model: nn.Module) -> None:
    """Raise `UndefinedError`, naming a tensor, if there are several dtypes, no values or infinite ones."""
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
        if bad := tensor.numel() - int(tensor.isfinite().sum()):
            raise UndefinedError(
                f"tensor {name!r} has {bad} of {tensor.numel()} values that are infinite or not a number: the network "
                "has diverged or its file is damaged"
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
    _keep_parameters(growth, large)
    return large.to(reference.device)


def _origin(growth: Growth, name: str) -> str:
    """The module of the small network that one of the large network continues or, in a new block, follows."""
    block, rest = growth.place(f"{name}.")
    blocks = [*growth.arrangement]
    before = reversed(blocks[: blocks.index(block) + 1]) if block else iter(())
    origin = next((old for new in before if (old := growth.arrangement[new]) is not None), "")
    return (origin + rest).strip(".")


def _keep_modes(growth: Growth, large: nn.Module) -> None:
    """Copy from the small network the mode of each module (training or evaluation) and its switches.

    A module without a counterpart gets the mode of the whole network. It gets each switch of the last module before it
    of its class.
    """
    modules = dict(growth.model.named_modules())
    before: dict[tuple[type, str], Any] = {}
    for name, module in large.named_modules():
        block, rest = growth.place(f"{name}.")
        origin = growth.arrangement[block] if block else ""
        source = None if origin is None else modules.get((origin + rest).strip("."))
        module.training = (source or growth.model).training
        for switch in SWITCHES:
            if source is not None and hasattr(source, switch):
                before[type(module), switch] = getattr(source, switch)
            if hasattr(module, switch) and (type(module), switch) in before:
                setattr(module, switch, before[type(module), switch])


def _keep_parameters(growth: Growth, large: nn.Module) -> None:
    """Freeze and lay out in memory each parameter as the one that it grew from.

    A parameter without one is trainable, and laid out as all others are.
    """
    small = dict(growth.model.named_parameters())
    layouts = {name: _layout(parameter) for name, parameter in small.items()}
    common = set(layouts.values()) - {None}
    for name, parameter in large.named_parameters():
        source = growth.source(name) or ""
        parameter.requires_grad_(source not in small or small[source].requires_grad)
        layout = layouts.get(source) or (next(iter(common)) if len(common) == 1 else None)
        if layout is not None and parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=layout)


def _layout(tensor: torch.Tensor) -> torch.memory_format | None:
    """The memory format of a tensor; None where its shape fits both."""
    formats = [torch.contiguous_format, torch.channels_last]
    fitting = [f for f in formats if tensor.dim() == 4 and tensor.is_contiguous(memory_format=f)]
    return fitting[0] if len(fitting) == 1 else None
