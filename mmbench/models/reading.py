"""Read the family and sizes of a given network, and build a network from what was read."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from itertools import zip_longest
from typing import Any

from torch import nn

from mmbench.data.base import InputShape
from mmbench.errors import ConfigError, UndefinedError
from mmbench.models._skeleton import skeleton
from mmbench.models.base import MODELS, Architecture
from mmbench.models.table import Table

HARMLESS = ("training", "inplace", "grad_checkpointing", "fused_attn", "weight_init_mode", "fix_init", "init_values")
"""Attributes that leave a module's function as it is."""


def configuration(model: nn.Module) -> dict[str, Any]:
    """A network's configuration as plain JSON data: `build` makes the same network of it, for its state dict to load.

    It holds all that a state dict does not: numbers of heads, LayerNorm epsilons, the image size.

    Raises:
        UndefinedError: the network is of no known family; the message names the part that does not fit.
    """
    architecture, shape = architecture_of(model)
    return {"model": architecture.describe(), "shape": shape._asdict()}


def build(configuration: Mapping[str, Any]) -> nn.Module:
    """The network of a `configuration`, freshly initialised.

    Raises:
        ConfigError: the configuration is not one, or has unknown or wrong entries.
        UndefinedError: the network does not fit images of that size.
    """
    found = dict(configuration) if isinstance(configuration, Mapping) else {}
    model, shape = found.get("model"), found.get("shape")
    if (
        not isinstance(model, Mapping)
        or not isinstance(shape, Mapping)
        or found.keys() != {"model", "shape"}
        or shape.keys() != set(InputShape._fields)
        or any(type(n) is not int or n < 1 for n in shape.values())
    ):
        raise ConfigError(
            "a configuration is a dictionary of model (its name and options) and shape "
            f"({', '.join(InputShape._fields)}, all integers >= 1), as mmbench.configuration makes it; this one is "
            f"{configuration!r}"
        )
    return MODELS.create(model).build(InputShape(**shape))


def architecture_of(model: nn.Module) -> tuple[Architecture, InputShape]:
    """Family, sizes and input of a built network; `UndefinedError` names the part that does not fit.

    The network is compared with what the family's factory builds from the sizes read, module by module, and with
    its axis table, so that a variant that they do not describe (another norm or pooling, a dropout, an extra layer) is
    refused, never guessed.
    """
    for name in MODELS.names():
        try:
            found = MODELS[name].read(model)
            if found is None:
                continue
            architecture, shape = found
            if shape.classes < 1:
                raise ValueError("it has no classifier (num_classes = 0), whose output an expansion could keep")
            difference = _first_difference(model, _modules(architecture, shape), architecture.table(shape))
        except (
            AttributeError,
            TypeError,
            ValueError,
            UndefinedError,
        ) as error:  # a part is missing, or too large for the family
            difference = str(error)
        if difference:
            raise UndefinedError(
                f"this {type(model).__name__} is not a plain network of the family {name!r}: {difference}"
            )
        return architecture, shape
    raise UndefinedError(
        f"a {type(model).__name__} belongs to no family that can be expanded (families: {', '.join(MODELS.names())})"
    )


@lru_cache(maxsize=64)
def _modules(architecture: Architecture, shape: InputShape) -> list[tuple[str, dict[str, Any]]]:
    """Names and settings of the modules that the family's factory builds."""
    return [(name, _settings(module)) for name, module in skeleton(architecture, shape).named_modules()]


def _first_difference(model: nn.Module, modules: list[tuple[str, dict[str, Any]]], table: Table) -> str:
    ours: nn.Module | None
    for (name, ours), (expected, settings) in zip_longest(model.named_modules(), modules, fillvalue=("nothing", None)):
        if ours is not None and (ours._forward_hooks or ours._forward_pre_hooks):
            return f"{f'module {name!r}' if name else 'it'} has forward hooks"
        if name != expected:
            return f"module {name!r} stands where {expected!r} is expected"
        own = [] if ours is None else [key for key in vars(ours) if callable(getattr(type(ours), key, None))]
        if own:
            return f"{f'module {name!r}' if name else 'it'} has a {own[0]} of its own"
        found = _settings(ours)
        for key, value in (settings or {}).items():
            if found.get(key) != value:
                return f"{f'module {name!r}' if name else 'it'} has {key} = {found.get(key)}, expected {value}"
    tensors = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    for name in sorted(tensors.keys() | table.tensors.keys()):
        shape = table.shape(name) if name in table.tensors else "nothing"
        if tensors.get(name) != shape:
            return f"tensor {name!r} is {tensors.get(name, 'missing')}, expected {shape}"
    return ""


def _settings(module: nn.Module | None) -> dict[str, Any]:
    """A module's class and its plain attributes, except those that leave its function as it is."""
    plain = {k: v for k, v in vars(module).items() if isinstance(v, (bool, int, float, str, tuple))}
    kind = type(module)
    # torch's and timm's LayerNorm are one function; a class of the same name from elsewhere may be anything
    known = kind.__module__.partition(".")[0] in ("torch", "timm", "mmbench")
    name = kind.__name__ if known else f"{kind.__module__}.{kind.__qualname__}"
    return {"class": name, **{k: v for k, v in plain.items() if k not in HARMLESS and k[0] != "_"}}
