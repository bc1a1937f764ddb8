"""Cutting images into square patches."""

from __future__ import annotations

from mmbench.data.base import InputShape
from mmbench.errors import UndefinedError


def count_patches(shape: InputShape, patch_size: int) -> int:
    """The number of patches of an image; `UndefinedError` unless the patch's side divides the image's."""
    if shape.image_size % patch_size:
        raise UndefinedError(f"model.patch_size = {patch_size} does not divide the image size {shape.image_size}")
    return (shape.image_size // patch_size) ** 2
