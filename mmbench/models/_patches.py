"""Cutting images into square patches."""

from __future__ import annotations

from typing import Any

from mmbench.data.base import InputShape
from mmbench.errors import UndefinedError


def count_patches(shape: InputShape, patch_size: int) -> int:
    """The number of patches of an image; `UndefinedError` unless the patch's side divides the image's."""
    if shape.image_size % patch_size:
        raise UndefinedError(f"model.patch_size = {patch_size} does not divide the image size {shape.image_size}")
    return (shape.image_size // patch_size) ** 2


def image_size(embedding: Any, name: str) -> int:
    """The side of the images of timm's `PatchEmbed`.

    Args:
        embedding: the module.
        name: of the module.

    Returns:
        The side in pixels.

    Raises:
        UndefinedError: images or patches are not square, or the patches leave a rest; the message names the module.
    """
    size, patch = embedding.img_size, embedding.patch_size
    if size is None or len({*size}) != 1 or len({*patch}) != 1 or size[0] % patch[0]:
        wanted = f"squares of a side that {patch[0]} divides" if len({*patch}) == 1 else "square patches"
        raise UndefinedError(f"module {name!r} has img_size = {size} and patch_size = {patch}, expected {wanted}")
    return int(size[0])
