"""What all sources of image files share: the choice of images, their decoding, and the checks on both.

A source has two pools, training and test. Each is shuffled once by a fixed seed, since files are often sorted by class.
The training split is taken from the front of the shuffled training pool and the validation split from its back. So they
never overlap, a smaller training split is part of a larger one, and the size of one split does not change the images of
another.
"""

from __future__ import annotations

import io
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from pydantic import Field

from mmbench.data.base import Data, Dataset, InputShape, Progress, Split, normalised, require_memory, silent
from mmbench.errors import DataError

Encoded = bytes | Image.Image

VALIDATION_SHARE, VALIDATION_LIMIT = 10, 5000  # by default a tenth of the training pool, at most 5,000 images
GREY_MODES = ("1", "L", "LA")
DEEP_MODES = ("I", "F")  # and I;16, I;16B, ...: PIL would clip them to eight bits


class Sample(NamedTuple):
    """One undecoded image, with its label in 0..classes-1 and its location for messages."""

    where: str
    image: Encoded
    label: int


class Pool(Protocol):
    """Images that splits are taken from, numbered from 0."""

    @property
    def where(self) -> str:
        """A description for messages, such as "the training files of /data/cifar10"."""

    def __len__(self) -> int:
        """How many images there are."""

    def samples(self, rows: Sequence[int]) -> Iterator[Sample]:
        """The samples of these rows, in ascending order; `DataError` for one that cannot be read."""


class ImageDataset(Dataset):
    """Base of the sources of image files: chooses images from two pools, decodes and normalises them."""

    image_size: int | None = Field(None, ge=1)
    """Height and width in pixels: images are cropped to the central square and resized; null keeps them as stored."""
    channels: Literal[1, 3] | None = None
    """1 (grey) or 3 (RGB), images are converted; null for that of the first image."""
    train_size: int | None = Field(None, ge=1)
    """Training images; null for all that are not in the validation split."""
    validation_size: int | None = Field(None, ge=1)
    """Validation images, held out of the training files; null for a tenth of them, at most 5,000. With validation files
    of their own, null for all of these."""
    test_size: int | None = Field(None, ge=1)
    """Test images; null for all."""

    @abstractmethod
    def pools(self) -> tuple[Pool, Pool]:
        """The training and the test images."""

    def held_out(self) -> Pool | None:
        """The validation images, if they are not held out of the training images."""
        return None

    def load(self, progress: Progress[Any] = silent) -> Data:
        """Decode the chosen images and normalise them.

        Args:
            progress: wraps the images of each split, to show how many have been read.

        Returns:
            The three splits, float32.

        Raises:
            DataError: the sizes exceed the number of images or the memory, or an image or a label cannot be used.
        """
        shape = self.shape()
        train, test = self.pools()
        validation = self.held_out()
        trained, held_out, tested = self.sizes(train, test, validation)
        require_memory(trained + held_out + tested, shape)
        order = _shuffled(len(train))
        parts = {
            "train": (train, order[:trained]),
            "validation": (train, order[len(train) - held_out :])
            if validation is None
            else (validation, _shuffled(len(validation))[:held_out]),
            "test": (test, _shuffled(len(test))[:tested]),
        }
        splits = [self._read(*part, shape, progress, f"reading {name} images") for name, part in parts.items()]
        return normalised(*splits, classes=shape.classes)

    def sizes(self, train: Pool, test: Pool, validation: Pool | None = None) -> tuple[int, int, int]:
        """How many images are trained on, held out and tested on; `DataError` if the pools have too few."""
        default = (
            min(max(len(train) // VALIDATION_SHARE, 1), VALIDATION_LIMIT) if validation is None else len(validation)
        )
        held_out = default if self.validation_size is None else self.validation_size
        taken = held_out if validation is None else 0
        trained = max(len(train) - taken, 1) if self.train_size is None else self.train_size
        tested = max(len(test), 1) if self.test_size is None else self.test_size
        if validation is not None and held_out > len(validation):
            raise DataError(
                f"dataset.validation_size = {held_out:,}, but {validation.where} hold {len(validation):,}; lower it"
            )
        if trained + taken > len(train):
            defaulted = " (its default)" if self.validation_size is None else ""
            raise DataError(
                f"dataset.train_size = {trained:,} and dataset.validation_size = {held_out:,}{defaulted} need "
                f"{trained + held_out:,} images, but {train.where} hold {len(train):,}; lower one of them"
            )
        if tested > len(test):
            raise DataError(f"dataset.test_size = {tested:,}, but {test.where} hold {len(test):,}; lower it")
        return trained, held_out, tested

    def _read(self, pool: Pool, rows: np.ndarray, shape: InputShape, progress: Progress[Any], title: str) -> Split:
        """The split of these rows, in their order; pixels in 0..1."""
        images = np.empty((len(rows), shape.channels, shape.image_size, shape.image_size), np.uint8)
        labels = np.empty(len(rows), np.int64)
        places = np.argsort(rows)  # the pool is read in ascending order, the split has its own
        samples = pool.samples(rows[places].tolist())
        for place, sample in zip(progress(places.tolist(), title), samples, strict=True):
            images[place] = self._pixels(sample, shape)
            labels[place] = sample.label
        return Split(torch.from_numpy(images).float().div_(255), torch.from_numpy(labels))

    def _pixels(self, sample: Sample, shape: InputShape) -> np.ndarray:
        """One image as bytes (C, H, W)."""
        image = opened(sample.where, sample.image)
        if self.channels is None and shape.channels < channels_of(image):
            raise DataError(
                f"{sample.where}: this is a colour image, but the first image is grey; set dataset.channels to 3 or 1"
            )
        size = (shape.image_size, shape.image_size)
        width, height = size_of(image)
        if self.image_size is None and (width, height) != size:
            raise DataError(
                f"{sample.where}: the image has {width}x{height} pixels, expected {size[0]}x{size[1]} "
                "as in the first image; set dataset.image_size to resize all of them"
            )
        pixels = np.asarray(_decoded(sample.where, image, "L" if shape.channels == 1 else "RGB", shape.image_size))
        return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def opened(where: str, encoded: Encoded) -> Image.Image:
    """Open an image without decoding its pixels.

    Args:
        where: its location, for the error.
        encoded: the bytes of an image file, or an open image.

    Returns:
        The image, whose size and mode are known.

    Raises:
        DataError: PIL cannot read it, or it has more than eight bits per channel.
    """
    try:
        image = Image.open(io.BytesIO(encoded)) if isinstance(encoded, bytes) else encoded
    except Exception as error:  # PIL raises a dozen types for broken files
        reason = "its bytes are not a known image format" if isinstance(error, UnidentifiedImageError) else error
        raise DataError(f"{where}: the image cannot be opened: {reason}") from error
    if image.mode.startswith(DEEP_MODES):
        raise DataError(
            f"{where}: images of more than 8 bits per channel (mode {image.mode}) are not supported; convert them"
        )
    return image


def channels_of(image: Image.Image) -> Literal[1, 3]:
    """1 for a grey image, 3 for any other."""
    return 1 if image.mode in GREY_MODES else 3


def size_of(image: Image.Image) -> tuple[int, int]:
    """Width and height as the image is seen: a camera may store it on its side, and note so in its EXIF data."""
    try:
        sideways = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
    except Exception:  # a broken file or broken EXIF data; decoding tells which
        sideways = False
    return (image.height, image.width) if sideways else image.size


def _decoded(where: str, image: Image.Image, mode: str, size: int) -> Image.Image:
    """The image upright and in this mode, cropped to its central square and resized, bicubic and antialiased."""
    try:
        if image.size != (size, size):
            image.draft(None, (2 * size, 2 * size))  # a JPEG much larger than needed is decoded at a part of its size
        upright = ImageOps.exif_transpose(image).convert(mode)
        if upright.size == (size, size):
            return upright
        return ImageOps.fit(upright, (size, size), Image.Resampling.BICUBIC)
    except Exception as error:  # as in `opened`
        raise DataError(f"{where}: the image cannot be decoded: {error}") from error


def _shuffled(count: int) -> np.ndarray:
    """0..count-1 in an order that depends only on `count`."""
    return np.random.RandomState(0).permutation(count)  # numpy guarantees this stream, unlike that of default_rng
