"""What a network has besides its sizes and weights, and what leaves its function in evaluation mode alone.

These are dropout and stochastic depth, the momentum of batch norms, images of any size, and timm's preprocessing. They
are read from the network, kept when it grows, and written with its configuration.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import nn

from mmbench.errors import ConfigError
from mmbench.models.parts import class_of

REGULARISERS = {
    **dict.fromkeys(("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout"), ("p",)),
    "DropPath": ("drop_prob", "scale_by_keep"),
    "PatchDropout": ("prob", "num_prefix_tokens", "ordered"),
    "DropBlock2d": ("drop_prob", "block_size", "gamma_scale", "scale_by_keep", "with_noise", "couple_channels"),
}
"""Layers that are the identity in evaluation mode, with their options."""
DROPPING = (*REGULARISERS, "Identity")
KEPT = ("drop_rate", "momentum", "dynamic_img_size", "strict_img_size", "dynamic_img_pad", "flatten", "output_fmt")
"""Attributes that matter in training only, or for images of another size only."""
DYNAMIC: dict[str, dict[str, Any]] = {
    "": {"dynamic_img_size": True},
    "patch_embed": {"flatten": False, "output_fmt": "NHWC"},
}
"""What differs in timm's Vision Transformer when it takes images of any size; all of it or nothing."""
PREPROCESSING = ("pretrained_cfg", "default_cfg")
"""Attributes of timm's networks with the mean, standard deviation and size of the images that they were trained on."""
SOURCES = ("url", "file", "hf_hub_id", "hf_hub_filename", "state_dict", "tag")
"""Entries of the preprocessing that say where timm finds the weights of the network that has grown."""
EXPANDED = "expanded_by_mmbench"
"""The architecture of a grown network. timm knows none of this name, so that it cannot build the small one instead."""
GROWN = "grown"
"""Attribute of a grown network: one entry for each expansion, with its options and the network before it."""


def is_regulariser(module: nn.Module | None) -> bool:
    """Whether a module is the identity in evaluation mode, because it drops something in training or does nothing."""
    return module is not None and class_of(module) in DROPPING


def traits(model: nn.Module) -> dict[str, Any]:
    """What a configuration holds besides sizes.

    Args:
        model: a network.

    Returns:
        Plain JSON data, each entry only if there is something: `regularisation` (by module: class and options),
        `attributes` (by module), `pretrained_cfg` and `grown`.
    """
    found: dict[str, Any] = {"regularisation": {}, "attributes": {}}
    for name, module in model.named_modules():
        kind = class_of(module)
        if options := REGULARISERS.get(kind):
            values = {option: getattr(module, option) for option in options}
            if values[options[0]]:
                found["regularisation"][name] = {"class": kind, **values}
        elif own := {key: getattr(value, "value", value) for key, value in _attributes(module)}:
            found["attributes"][name] = own
    for key in ("pretrained_cfg", GROWN):
        found[key] = _plain(getattr(model, key, None)) or None
    return {key: value for key, value in found.items() if value}


def _attributes(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """The kept attributes that are not as timm and torch set them by default."""
    usual: dict[str, Any] = {"drop_rate": 0.0, "momentum": 0.1, "dynamic_img_size": False, "strict_img_size": True}
    usual |= {"dynamic_img_pad": False, "flatten": True, "output_fmt": "NCHW"}
    for key in KEPT:
        value = vars(module).get(key, usual[key])
        if getattr(value, "value", value) != usual[key]:
            yield key, value


def _plain(value: Any) -> Any:
    """The part of a value that JSON can hold."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items() if v is None or _plain(v) is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return value if isinstance(value, (bool, int, float, str)) else None


def give(model: nn.Module, entries: Mapping[str, Any]) -> None:
    """Give a new network the traits of a configuration.

    Args:
        model: the network; changed in place.
        entries: as `traits` returns them.

    Raises:
        ConfigError: an entry is unknown, or names a module that the network does not have.
    """
    try:
        for name, options in entries.get("regularisation", {}).items():
            _regularise(model, name, **options)
        for name, values in entries.get("attributes", {}).items():
            for key, value in values.items():
                _set(model.get_submodule(name), key, value)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"the configuration does not fit its network: {str(error) or type(error).__name__}") from None
    if config := entries.get("pretrained_cfg"):
        model.pretrained_cfg = model.default_cfg = _tuples(config)
    if GROWN in entries:
        setattr(model, GROWN, entries[GROWN])


def _regularise(model: nn.Module, name: str, **options: Any) -> None:
    import timm.layers

    kind, (parent, _, child) = options.pop("class"), name.rpartition(".")
    owner = model.get_submodule(parent)
    if kind not in REGULARISERS or not _has_place(owner, child):
        raise ValueError(f"no {kind} can stand at {name!r}")
    setattr(owner, child, (getattr(nn, kind, None) or getattr(timm.layers, kind))(**options))


def _set(module: nn.Module, key: str, value: Any) -> None:
    from timm.layers import Format

    if key not in KEPT or key not in vars(module) or not isinstance(value, (bool, int, float, str, type(None))):
        raise ValueError(f"{key} = {value!r} cannot be set in a {type(module).__name__}")
    setattr(module, key, Format(value) if key == "output_fmt" else value)


def _has_place(parent: nn.Module, child: str) -> bool:
    """Whether a layer that drops something can be a module's child without a change of what the module computes."""
    if child in parent._modules:
        return is_regulariser(parent._modules[child])
    return not isinstance(parent, (nn.Sequential, nn.ModuleList))  # it would become a layer of its own


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tuples(entry) for key, entry in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def inherit(small: nn.Module, large: nn.Module, origin: Callable[[str], str]) -> None:
    """Give a grown network what its base has, in every module that continues one of the base.

    Args:
        small: the base.
        large: the grown network; changed in place.
        origin: for the name of a module of the large network that of the small one that it continues or, in a new
            block, resembles.
    """
    modules = dict(small.named_modules())
    for name, module in [*large.named_modules()]:
        if (old := modules.get(origin(name))) is None:
            continue
        for child, layer in old.named_children():
            if is_regulariser(layer) and _has_place(module, child):
                setattr(module, child, copy.deepcopy(layer))
        for key in KEPT:
            if key in vars(old) and key in vars(module):
                setattr(module, key, vars(old)[key])


def keep_preprocessing(small: nn.Module, large: nn.Module, grown: bool) -> None:
    """Copy the preprocessing of timm's networks to a network made from one.

    Args:
        small: the network that it was made from.
        large: the network; changed in place.
        grown: whether its sizes differ. Then timm's name of the architecture would be wrong, and is replaced, so that
            what `timm.models.save_for_hf` writes is never read as the small network.
    """
    for attribute in PREPROCESSING:
        config = copy.copy(getattr(small, attribute, None))
        if isinstance(config, dict) and grown:
            config = {key: value for key, value in config.items() if key not in SOURCES} | {"architecture": EXPANDED}
        if config is not None:
            setattr(large, attribute, config)
