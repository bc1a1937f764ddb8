"""Read the family and sizes of a given network, and build a network of the same family and sizes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from torch import nn

from mmbench.arguments import shown
from mmbench.data.base import InputShape
from mmbench.errors import ConfigError, UndefinedError
from mmbench.models.base import MODELS, Architecture
from mmbench.models.parts import class_of, unwrapped
from mmbench.models.skeleton import skeleton
from mmbench.models.table import Table
from mmbench.models.traits import DROPPING, DYNAMIC, give, is_regulariser, traits

HARMLESS = (
    *("training", "inplace", "grad_checkpointing", "fused_attn", "weight_init_mode", "fix_init", "init_values"),
    *("drop_rate", "momentum", "strict_img_size", "dynamic_img_pad"),
)
"""Attributes that do not change what a module computes in evaluation mode, on images of the network's size."""
STATED = ("num_classes", "in_chans", "num_features", "head_hidden_size", "hidden_size", "embed_dim", "in_features")
"""Attributes of a module with layers inside that say how these were made. The layers are the truth."""
EXTRA = ("regularisation", "attributes", "pretrained_cfg", "grown")
"""What a configuration may hold besides sizes."""


def configuration(model: nn.Module) -> dict[str, Any]:
    """A network's configuration as plain JSON data, from which `build` makes a network that loads its state dict.

    It holds what a state dict lacks: the number of heads, LayerNorm epsilons, the image size, dropout, preprocessing.

    Args:
        model: a network of a supported family, perhaps wrapped, as by `torch.compile`.

    Returns:
        {"model": name and options, "shape": channels, image_size and classes}, and where the network has them:
        `regularisation` and `attributes` (dropout, stochastic depth, images of any size, by module), `pretrained_cfg`
        (timm's mean, standard deviation and size of the images) and `grown` (the expansions that made it).

    Raises:
        UndefinedError: the network belongs to no known family; the message names the part that does not fit.
    """
    model = unwrapped(model)
    architecture, shape = architecture_of(model)
    return {"model": architecture.describe(), "shape": shape._asdict(), **traits(model)}


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
    architecture, shape = checked(configuration)
    network = architecture.build(shape)
    give(network, configuration)
    return network


def checked(configuration: Any) -> tuple[Architecture, InputShape]:
    """The architecture and the shape of a configuration; errors are those of `build`."""
    entries = dict(configuration) if isinstance(configuration, Mapping) else {}
    model, shape = entries.get("model"), entries.get("shape")
    if (
        not isinstance(model, Mapping)
        or not isinstance(shape, Mapping)
        or not {"model", "shape"} <= entries.keys() <= {"model", "shape", *EXTRA}
        or shape.keys() != set(InputShape._fields)
        or any(type(n) is not int or n < 1 for n in shape.values())
    ):
        raise ConfigError(
            "a configuration is a dictionary of model (its name and options) and shape "
            f"({', '.join(InputShape._fields)}, all integers >= 1), as mmbench.configuration returns it; this one is "
            f"{configuration if isinstance(configuration, Mapping) else shown(configuration)}"
        )
    return MODELS.create(model), InputShape(**shape)


def architecture_of(model: nn.Module) -> tuple[Architecture, InputShape]:
    """Read the family, the sizes and the input of a network.

    The network is compared, module by module, with the one that the family builds from these sizes, and with its axis
    table. So a variant that the family does not describe (another norm or pooling, an extra layer) is an error. Layers
    that do nothing in evaluation mode, such as dropout, may differ.

    Args:
        model: a network of one of the families in `mmbench.models`, perhaps wrapped; it is not changed.

    Returns:
        The architecture, and the image shape and number of classes that the network is built for.

    Raises:
        UndefinedError: the network belongs to no family; the message names the first part that does not fit.
    """
    model = unwrapped(model)
    if not isinstance(model, nn.Module):
        raise UndefinedError(f"a network is a torch.nn.Module, not {type(model).__name__}")
    for name in MODELS.names():
        try:
            known = MODELS[name].read(model)
            difference = "" if known is None else _first_difference(model, *known)
        except (AttributeError, IndexError, TypeError, ValueError, UndefinedError) as error:
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
        f"{_inside(model)}"
    )


def _inside(model: nn.Module) -> str:
    """A hint at the first network of a family inside another module, as a clause; empty if there is none."""
    for name, module in model.named_modules():
        if not name:
            continue
        try:
            architecture, _ = architecture_of(module)
        except UndefinedError as error:
            if "not a plain network" not in str(error) or isinstance(module, nn.Sequential):
                continue
            return f"; its module {name!r}, which looks like one, is none: {error}"
        return f"; its module {name!r} is one of the family {architecture.name!r}: give that"
    return ""


@lru_cache(maxsize=64)
def _modules(architecture: Architecture, shape: InputShape) -> list[tuple[str, dict[str, Any]]]:
    """Names and settings of the modules that the family's factory builds."""
    return [(name, _settings(module)) for name, module in skeleton(architecture, shape).named_modules()]


def _first_difference(model: nn.Module, architecture: Architecture, shape: InputShape) -> str:
    """The first difference between a network and what its family builds, as a clause; empty if there is none."""
    if shape.classes < 1:
        return "it has no classifier (num_classes = 0), whose output an expansion could keep"
    expected = dict(_modules(architecture, shape))
    dynamic = getattr(model, "dynamic_img_size", False) is True
    found = [
        (name, module)
        for name, module in model.named_modules()
        # a layer that drops something is no step of a forward pass of its own, except in a sequence
        if name in expected or not is_regulariser(module) or _in_sequence(model, name)
    ]
    for (name, module), wanted in zip(found, expected, strict=False):
        subject = f"module {name!r}" if name else "it"
        if module._forward_hooks or module._forward_pre_hooks:
            return f"{subject} has forward hooks"
        if name != wanted:
            return f"found module {name!r} where {wanted!r} is expected"
        if own := [key for key in vars(module) if callable(getattr(type(module), key, None))]:
            return f"{subject} has its own {own[0]}"
        if is_regulariser(module) and expected[name]["class"] in DROPPING:
            continue
        actual = _settings(module)
        for key, value in (expected[name] | (DYNAMIC.get(name, {}) if dynamic else {})).items():
            if actual.get(key) != value:
                more = "" if name else _more(found, expected)
                return f"{subject} has {key} = {actual.get(key)}, expected {value}{more}"
    if len(found) > len(expected):
        return f"module {found[len(expected)][0]!r} is one more than the family has"
    if len(found) < len(expected):
        last, missing = found[-1][0], [*expected][len(found)]
        return f"after module {last!r}, its last, {missing!r} is expected"
    return _first_tensor_difference(model, architecture.table(shape))


def _more(found: list[tuple[str, nn.Module]], expected: Mapping[str, Any]) -> str:
    """The first module that the family does not have, as a clause; empty if there is none."""
    name = next((name for name, _ in found if name not in expected), "")
    return name and f"; the family has no module {name!r}"


def _in_sequence(model: nn.Module, name: str) -> bool:
    return isinstance(model.get_submodule(name.rpartition(".")[0]), (nn.Sequential, nn.ModuleList))


def _first_tensor_difference(model: nn.Module, table: Table) -> str:
    tensors = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    for name in sorted(tensors.keys() | table.tensors.keys()):
        shape = table.shape(name) if name in table.tensors else "nothing"
        owner = name.rpartition(".")[0]
        if name not in tensors:
            return f"tensor {name!r} is missing{owner and f' from module {owner!r}'}, expected {shape}"
        if tensors[name] != shape:
            return f"tensor {name!r} is {tensors[name]}, expected {shape}"
    return ""


def _settings(module: nn.Module) -> dict[str, Any]:
    """A module's class and its plain attributes, except those that do not change what it computes."""
    plain = {k: v for k, v in vars(module).items() if isinstance(v, (bool, int, float, str, tuple))}
    left_out = (*HARMLESS, *(STATED if module._modules else ()))
    return {"class": class_of(module), **{k: v for k, v in plain.items() if k not in left_out and k[0] != "_"}}
