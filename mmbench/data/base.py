"""What a data source is: its shape, known without loading, its fingerprint, and its three splits in memory."""

from __future__ import annotations

import functools
import hashlib
from abc import abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import psutil
import torch

from mmbench.errors import DataError
from mmbench.registry import Component, Registry

T = TypeVar("T")
Progress = Callable[[Iterable[T], str], Iterable[T]]
"""Wraps an iterable to show its progress under a description, as `rich.progress.track` does."""


def silent(items: Iterable[T], description: str) -> Iterable[T]:
    """The progress display that shows nothing."""
    return items


class InputShape(NamedTuple):
    """What a network is built for: images of (channels, image_size, image_size) and the number of classes."""

    channels: int
    image_size: int
    classes: int


@dataclass(frozen=True)
class Split:
    """Images (N, C, H, W) and integer labels (N,), on one device."""

    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> Split:
        """The same split on another device."""
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Data:
    """Three disjoint splits, normalised by the training split's per-channel mean and standard deviation."""

    train: Split
    validation: Split
    test: Split
    classes: int

    @property
    def shape(self) -> InputShape:
        """Channels, image size and classes of the tensors."""
        _, channels, size, _ = self.train.images.shape
        return InputShape(channels, size, self.classes)

    def to(self, device: torch.device | str) -> Data:
        """The same data on another device."""
        return replace(
            self, train=self.train.to(device), validation=self.validation.to(device), test=self.test.to(device)
        )


class Dataset(Component):
    """Base of all data sources. Fields are options; see the package's files for examples."""

    @abstractmethod
    def shape(self) -> InputShape:
        """Channels, image size and classes, without loading the data (planning needs them)."""

    @abstractmethod
    def load(self, progress: Progress[Any] = silent) -> Data:
        """Read, split and normalise. The result depends on the options and the files only; no random state is used."""

    @property
    def title(self) -> str:
        """The name of the data in tables. A reader of many data sets returns the name of the one that it reads."""
        return self.name

    def fingerprint(self) -> dict[str, Any]:
        """Identifies the content: the options, with every path replaced by a hash of its files."""
        return self.describe()


DATASETS: Registry[Dataset] = Registry("dataset", "mmbench.data")


def normalised(train: Split, validation: Split, test: Split, *, classes: int) -> Data:
    """Subtract the training images' mean and divide by their standard deviation, per channel, in every split.

    Args:
        train: float images (N, C, H, W), changed in place to save memory, and labels.
        validation: likewise.
        test: likewise.
        classes: number of classes.

    Returns:
        The three splits as data.
    """
    mean = train.images.mean(dim=(0, 2, 3), keepdim=True)
    std = train.images.std(dim=(0, 2, 3), keepdim=True).clamp_min(1e-6)
    for split in (train, validation, test):
        split.images.sub_(mean).div_(std)
    return Data(train, validation, test, classes)


def require_memory(images: int, shape: InputShape, key: str = "dataset") -> None:
    """Check that two float32 copies of the images fit into free memory, since training shuffles a copy.

    Args:
        images: number of images in all splits.
        shape: of each image.
        key: config key of the options to lower, for the error.

    Raises:
        DataError: they do not fit; the message gives both sizes.
    """
    needed = 2 * 4 * images * shape.channels * shape.image_size**2
    available = psutil.virtual_memory().available
    if needed > available:
        raise DataError(
            f"{key}: {images:,} images of {shape.channels}x{shape.image_size}x{shape.image_size} need "
            f"{needed / 2**30:.1f} GiB of memory, {available / 2**30:.1f} GiB are free; "
            f"lower {key}.train_size or {key}.image_size"
        )


class Stamp(NamedTuple):
    """A file's path, size and modification time, which identify its content in caches."""

    path: Path
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> Stamp:
        """The file's stamp; `DataError` if there is no such file."""
        try:
            stat = path.stat()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from error
        return cls(path.absolute(), stat.st_size, stat.st_mtime_ns)


def content_hash(files: Iterable[tuple[str, Stamp]]) -> str:
    """A hash of the files' bytes, in order.

    The folder of a file is not part of the hash, so moved data keep their results and changed data do not. A file with
    the same path, size and modification time is read once per process.

    Args:
        files: each with a name for its use, such as its split, which is part of the hash.

    Returns:
        32 hexadecimal digits.

    Raises:
        DataError: a file cannot be read.
    """
    total = hashlib.blake2b(digest_size=16)
    for name, stamp in files:
        # A file name need not be UTF-8: its bytes stand in the text as lone surrogates.
        total.update(f"{name}\0{_digest(stamp)}\n".encode(errors="surrogateescape"))
    return total.hexdigest()


def digests(files: Iterable[Stamp]) -> list[str]:
    """A hash of each file's bytes; see `content_hash`."""
    return [_digest(stamp) for stamp in files]


@functools.cache
def _digest(stamp: Stamp) -> str:
    try:
        with stamp.path.open("rb") as file:
            return hashlib.file_digest(file, functools.partial(hashlib.blake2b, digest_size=16)).hexdigest()
    except OSError as error:
        raise DataError(f"{stamp.path} cannot be read: {error.strerror}") from error


@functools.lru_cache(maxsize=2)
def load_data(dataset: Dataset, device: torch.device | str, progress: Progress[Any] = silent) -> Data:
    """The data on the device; cached for the next run.

    Args:
        dataset: what to load.
        device: where the images and labels go.
        progress: shows the progress.

    Returns:
        The data.

    Raises:
        DataError: the data do not have the shape that the data set's options state.
    """
    data = dataset.load(progress)
    if data.shape != dataset.shape():
        raise DataError(f"dataset {dataset.name!r} should have {dataset.shape()} and has {data.shape}")
    return data.to(device)
