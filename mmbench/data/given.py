"""Images and labels from what people have: two tensors or arrays, a split, a data set, or a loader of batches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from mmbench.errors import ConfigError


def pair_of(data: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and labels as two tensors.

    Args:
        data: (images, labels); or an object with `images` and `labels`; or a data set of examples (image, label); or a
            loader of batches (images, labels). What is iterated over is read once and concatenated.

    Returns:
        Images and labels, as they are: neither cast nor checked.

    Raises:
        ConfigError: it is nothing of these; the message says what it is and what is allowed.
    """
    try:
        return _read(data)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(
            "data must be (images, labels), a data set of such examples, or a loader of such batches, not "
            f"{type(data).__name__}: {str(error).splitlines()[0]}"
        ) from None


def _read(data: Any) -> tuple[torch.Tensor, torch.Tensor]:
    if hasattr(data, "images") and hasattr(data, "labels"):
        return torch.as_tensor(data.images), torch.as_tensor(data.labels)
    if isinstance(data, (tuple, list)) and len(data) == 2 and not _is_pair(data[0]):
        return torch.as_tensor(data[0]), torch.as_tensor(data[1])
    if isinstance(data, torch.Tensor):
        raise ValueError("it has no labels")
    with torch.random.fork_rng([]):  # a loader draws its order, and a seed for its workers, from the global state
        torch.default_generator.manual_seed(0)
        parts = [_part(part) for part in _items(data)]
    if not parts:
        raise ValueError("it is empty: it has no batches")
    # A label without dimensions belongs to one example; with one, to a batch.
    join = torch.stack if parts[0][1].dim() == 0 else torch.cat
    images, labels = zip(*parts, strict=True)
    return join(images), join(labels)


def _items(data: Any) -> Iterable[Any]:
    # A data set need not raise IndexError at its end, so it is not iterated over where its length is known.
    by_index = isinstance(data, torch.utils.data.Dataset) and hasattr(data, "__len__")
    return (data[index] for index in range(len(data))) if by_index else data


def _is_pair(part: Any) -> bool:
    """Whether it is images and labels itself, so that a list of two of them is a list of two batches."""
    return isinstance(part, (tuple, list)) and len(part) == 2 and all(hasattr(half, "shape") for half in part)


def _part(part: Any) -> tuple[torch.Tensor, torch.Tensor]:
    if isinstance(part, dict) or not hasattr(part, "__len__") or len(part) != 2:
        raise ValueError(f"found {type(part).__name__} where an image and its label are expected")
    image, label = part
    if not hasattr(image, "shape") and not isinstance(image, (list, tuple)):
        raise ValueError(f"found an image of type {type(image).__name__}; convert it to a tensor")
    return torch.as_tensor(image), torch.as_tensor(label)
