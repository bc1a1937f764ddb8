"""A network as it can be measured: without wrappers, in single precision or better, with plain weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import reduce
from typing import Any
from unittest.mock import patch

import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.utils import checkpoint

from mmbench.errors import UndefinedError
from mmbench.models.copies import copied
from mmbench.models.parts import unwrapped


def measurable(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode and at least single precision, without wrappers and in-place operations."""
    try:
        twin = in_full(unwrap_inside(copied(unwrapped(model))))
        for module in twin.modules():
            if isinstance(getattr(module, "inplace", None), bool):
                setattr(module, "inplace", False)  # noqa: B010, the type checker takes it for a tensor
        if not any(p.requires_grad for p in twin.parameters()):
            twin.requires_grad_(True)
        return twin.eval()
    except (RuntimeError, TypeError, ValueError) as error:
        raise UndefinedError(
            f"this {type(model).__name__} cannot be copied and differentiated, so it cannot be measured: {error}"
        ) from error


def unwrap_inside(model: nn.Module) -> nn.Module:
    """Replace wrapped modules within `model` by what they wrap, in place; returns `model`."""
    for module in list(model.modules()):
        for name, child in list(module._modules.items()):
            if child is not None and (plain := unwrapped(child)) is not child:
                setattr(module, name, plain)
    return model


def full_dtype(model: nn.Module) -> torch.dtype:
    """The dtype that a network is measured in: that of its parameters, but at least single precision.

    Half precision holds neither small differences of losses nor the squares of small gradients.

    Returns:
        float32 or float64.
    """
    dtypes = {p.dtype for p in model.parameters() if p.is_floating_point()}
    return reduce(torch.promote_types, dtypes, torch.float32)


def in_full(model: nn.Module) -> nn.Module:
    """Convert a network to `full_dtype`, in place, unless it has that dtype already; returns `model`."""
    dtype = full_dtype(model)
    tensors = [p for p in model.parameters() if p.is_floating_point()]
    halves = [b for b in model.buffers() if b.is_floating_point() and b.dtype.itemsize < 4]
    return model.to(dtype) if halves or any(p.dtype != dtype for p in tensors) else model


def without_parametrizations(model: nn.Module) -> nn.Module:
    """Make every parametrised weight (weight norm, ...) a parameter with its present value, in place.

    A weight is trainable if anything that it is computed from is.

    Returns:
        `model`.
    """
    for module in list(model.modules()):
        if not parametrize.is_parametrized(module):
            continue
        # `remove_parametrizations` would change the module's class, which copies share with the original.
        weights = {
            name: nn.Parameter(getattr(module, name).detach(), any(p.requires_grad for p in parts.parameters()))
            for name, parts in module.parametrizations.items()  # type: ignore[union-attr, operator]
        }
        plain = parametrize.type_before_parametrizations(module)
        del module.parametrizations
        module.__class__ = plain
        for name, weight in weights.items():
            module.register_parameter(name, weight)
    return model


@contextmanager
def without_checkpoints() -> Iterator[None]:
    """Keep all activations for the backward pass.

    Checkpointed blocks are computed again in the backward pass: reentrant ones only within `backward()`, neither kind
    under `torch.func`, and hooks see each twice.
    """

    class Plain:
        """Stands for `CheckpointFunction`, through which all reentrant checkpoints go."""

        @staticmethod
        def apply(function: Any, preserve: bool, *inputs: Any) -> Any:
            return function(*inputs)

    def twice(*args: Any, **kwargs: Any) -> Iterator[None]:
        yield

    generator = "_checkpoint_without_reentrant_generator"
    with ExitStack() as stack:
        stack.enter_context(patch.object(checkpoint, "CheckpointFunction", Plain))
        for name in (generator, f"{generator}_impl"):
            if hasattr(checkpoint, name):
                stack.enter_context(patch.object(checkpoint, name, twice))
        yield
