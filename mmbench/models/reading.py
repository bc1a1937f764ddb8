"""Read the family and sizes of a given network, and build a network of the same family and sizes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from itertools import zip_longest
from typing import Any

from torch import nn

from mmbench.arguments import shown
from mmbench.data.base import InputShape
from mmbench.errors import ConfigError, UndefinedError
from mmbench.models.base import MODELS, Architecture
from mmbench.models.skeleton import skeleton
from mmbench.models.table import Table

HARMLESS = ("training", "inplace", "grad_checkpointing", "fused_attn", "weight_init_mode", "fix_init", "init_values")
"""Attributes that do not change what a module computes."""


def configuration(model: nn.Module) -> dict[str, Any]:
    """A network's configuration as plain JSON data, from which `build` makes a network that loads its state dict.

    It holds what a state dict lacks: the number of heads, LayerNorm epsilons, the image size.

    Args:
        model: a network of one of the families in `mmbench.models`.

    Args:
        model: a network of a supported family.

    Returns:
        {"model": name and options, "shape": channels, image_size and classes}.

    Raises:
        UndefinedError: the network belongs to no known family; the message names the part that does not fit.
    """
    architecture, shape = architecture_of(model)
    return {"model": architecture.describe(), "shape": shape._asdict()}


def build(configuration: Mapping[str, Any]) -> nn.Module:
    """Build the network of a `configuration`, freshly initialised.

    Args:
        configuration: as `configuration` returns it.

    Returns:
        The network, on torch's default device.

    Raises:
        ConfigError: it is not a configuration, or has unknown or invalid entries.
        UndefinedError: the network does not fit images of that size.
    """
    entries = dict(configuration) if isinstance(configuration, Mapping) else {}
    model, shape = entries.get("model"), entries.get("shape")
    if (
        not isinstance(model, Mapping)
        or not isinstance(shape, Mapping)
        or entries.keys() != {"model", "shape"}
        or shape.keys() != set(InputShape._fields)
        or any(type(n) is not int or n < 1 for n in shape.values())
    ):
        raise ConfigError(
            "a configuration is a dictionary of model (its name and options) and shape "
            f"({', '.join(InputShape._fields)}, all integers >= 1), as mmbench.configuration returns it; this one is "
            f"{configuration if isinstance(configuration, Mapping) else shown(configuration)}"
        )
    return MODELS.create(model).build(InputShape(**shape))


def architecture_of(model: nn.Module) -> tuple[Architecture, InputShape]:
    """Read the family, the sizes and the input of a network.

    The network is compared, module by module, with the one that the family builds from these sizes, and with its axis
    table. So a variant that the family does not describe (another norm or pooling, dropout, an extra layer) is an
    error.

    Args:
        model: a network of one of the families in `mmbench.models`; it is not changed.

    Returns:
        The architecture, and the image shape and number of classes that the network is built for.

    Raises:
        UndefinedError: the network belongs to no family; the message names the first part that does not fit.
    """
    for name in MODELS.names():
        try:
            known = MODELS[name].read(model)
            difference = "" if known is None else _first_difference(model, *known)
        except (AttributeError, TypeError, ValueError, UndefinedError) as error:  # a part is missing or too large
            known, difference = None, str(error)
        if difference:
            raise UndefinedError(
                f"this {type(model).__name__} is not a plain network of the family {name!r}: {difference}"
            )
        if known is not None:
            return known
    if not isinstance(model, nn.Module):
        raise UndefinedError(f"model must be a network (nn.Module): got {type(model).__name__}")
    raise UndefinedError(
        f"a {type(model).__name__} belongs to no family that can be expanded (families: {', '.join(MODELS.names())})"
    )


@lru_cache(maxsize=64)
def _modules(architecture: Architecture, shape: InputShape) -> list[tuple[str, dict[str, Any]]]:
    """Names and settings of the modules that the family's factory builds."""
    return [(name, _settings(module)) for name, module in skeleton(architecture, shape).named_modules()]


def _first_difference(model: nn.Module, architecture: Architecture, shape: InputShape) -> str:
    """The first difference between a network and what its family builds, as a clause; empty if there is none."""
    if shape.classes < 1:
        return "it has no classifier (num_classes = 0), whose output an expansion could keep"
    expected_modules = _modules(architecture, shape)
    module: nn.Module | None
    for (name, module), (expected, settings) in zip_longest(
        model.named_modules(), expected_modules, fillvalue=("nothing", None)
    ):
        subject = f"module {name!r}" if name else "it"
        if module is not None and (module._forward_hooks or module._forward_pre_hooks):
            return f"{subject} has forward hooks"
        if name != expected:
            return f"found module {name!r} where {expected!r} is expected"
        own = [] if module is None else [key for key in vars(module) if callable(getattr(type(module), key, None))]
        if own:
            return f"{subject} has its own {own[0]}"
        actual = _settings(module)
        for key, value in (settings or {}).items():
            if actual.get(key) != value:
                return f"{subject} has {key} = {actual.get(key)}, expected {value}"
    return _first_tensor_difference(model, architecture.table(shape))


def _first_tensor_difference(model: nn.Module, table: Table) -> str:
    tensors = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    for name in sorted(tensors.keys() | table.tensors.keys()):
        shape = table.shape(name) if name in table.tensors else "nothing"
        if tensors.get(name) != shape:
            return f"tensor {name!r} is {tensors.get(name, 'missing')}, expected {shape}"
    return ""


def _settings(module: nn.Module | None) -> dict[str, Any]:
    """A module's class and its plain attributes, except those that do not change what it computes."""
    plain = {k: v for k, v in vars(module).items() if isinstance(v, (bool, int, float, str, tuple))}
    kind = type(module)
    # torch's and timm's LayerNorm compute the same; a class of that name from elsewhere may not
    known = kind.__module__.partition(".")[0] in ("torch", "timm", "mmbench")
    name = kind.__name__ if known else f"{kind.__module__}.{kind.__qualname__}"
    return {"class": name, **{k: v for k, v in plain.items() if k not in HARMLESS and k[0] != "_"}}
