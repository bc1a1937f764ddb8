"""A network in one file: its weights as safetensors and, in the file's metadata as JSON, all that they lack.

That is its sizes, LayerNorm epsilons, dropout, preprocessing, and what grew. Nothing in the file can run.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from mmbench.data.base import InputShape
from mmbench.errors import ConfigError, StoreError, UndefinedError
from mmbench.models.base import Architecture
from mmbench.models.checkpoint import Tell, load_checkpoint
from mmbench.models.files import KEY, METADATA, configuration_in, read_file
from mmbench.models.parts import unwrapped
from mmbench.models.reading import build, checked, configuration


def save(model: nn.Module, path: str | Path) -> Path:
    """Write a network to a safetensors file, with all that `load` needs to make it again.

    Args:
        model: a network of a supported family, perhaps wrapped; on any device.
        path: the file, with any suffix; an existing one is replaced.

    Returns:
        The path.

    Raises:
        UndefinedError: the network belongs to no known family, shares weights between layers, or has no values.
        StoreError: the file cannot be written.
    """
    model, path = unwrapped(model), Path(path)
    metadata = {"format": "pt", METADATA: json.dumps(configuration(model))}
    seen: dict[int, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if (first := seen.setdefault(id(parameter), name)) != name:
            raise UndefinedError(f"tensors {first!r} and {name!r} are one; in the file they would be two")
        if parameter.is_meta:
            raise UndefinedError(f"tensor {name!r} is on the meta device: the network has no weights to save")
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            save_file(state, part, metadata=metadata)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        raise StoreError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from None
    return path


def load(path: str | Path) -> nn.Module:
    """Make the network that a file holds.

    Args:
        path: what `save` wrote; or a torch file of a dictionary with a `configuration` and a state dict.

    Returns:
        The network in evaluation mode, on torch's default device, with the file's weights and their dtypes. The global
        random state is not changed.

    Raises:
        ConfigError: the file does not exist, has no configuration, or its weights do not fit it.
    """
    content, entries = read_file(Path(path))
    if entries is None:
        raise ConfigError(
            f"{str(path)!r} has no configuration, so its sizes are unknown: write it with mmbench.save(model, FILE), "
            "or make the network yourself and use its load_state_dict"
        )
    with torch.random.fork_rng(devices=[]):
        model = build(entries)
    types = {tensor.dtype for tensor in _tensors(content) if tensor.is_floating_point()}
    if len(types) == 1:
        model = model.to(types.pop())
    return load_checkpoint(model, path)


def architecture_for(path: str | Path, given: Architecture, typed: Iterable[str] = ()) -> Architecture:
    """The sizes of the network in a file or, if the file does not hold them, given ones.

    Args:
        path: the file.
        given: the sizes for a file of weights alone.
        typed: options of `given` that the user chose; those of the file must agree.

    Returns:
        The architecture.

    Raises:
        ConfigError: the file cannot be read, or an option disagrees.
    """
    entries = configuration_in(path)
    if entries is None:
        return given
    own = checked(entries)[0]
    mine, found = given.describe(), own.describe()
    for option in typed:
        if mine.get(option) != found.get(option):
            name = "model" if option == "name" else f"model.{option}"
            raise ConfigError(
                f"{name} = {mine.get(option)} contradicts {KEY} = {str(path)!r}, whose network has "
                f"{found.get(option)}; leave it out: the file holds all sizes"
            )
    return own


def load_for(shape: InputShape, given: Architecture, path: str | Path, tell: Tell = warnings.warn) -> nn.Module:
    """Load a checkpoint for a data set: with the sizes in the file or, if it has none, with given ones.

    Args:
        shape: of the data set.
        given: the sizes for a file of weights alone.
        path: the file.
        tell: receives a sentence if position embeddings were resampled.

    Returns:
        The network in evaluation mode.

    Raises:
        ConfigError: the file cannot be read, or its network does not fit the data set.
    """
    entries = configuration_in(path)
    if entries is None:
        return load_checkpoint(given.build(shape), path, tell)
    own, of = checked(entries)
    there, here = own.table(of), own.table(shape)
    if differing := [name for name in there.tensors if there.shape(name) != here.shape(name) and name != "pos_embed"]:
        raise ConfigError(
            f"{KEY} = {str(path)!r} is a network for {_images(of)}; the data set has {_images(shape)}, and "
            f"{differing[0]} does not fit"
        )
    return load_checkpoint(build({**entries, "shape": shape._asdict()}), path, tell)


def _images(shape: InputShape) -> str:
    side = shape.image_size
    return f"images of {shape.channels} x {side} x {side} and {shape.classes} classes"


def _tensors(content: Any) -> list[torch.Tensor]:
    if isinstance(content, torch.Tensor):
        return [content]
    return [tensor for value in content.values() for tensor in _tensors(value)] if isinstance(content, Mapping) else []
