"""Parquet files of encoded images and integer labels, as the Hugging Face hub exports them.

`path` holds `train*.parquet` and `test*.parquet` (if there is no test file, `val*.parquet` is the test split), each in
any number of shards, directly or in a sub-folder such as `data/`. Only the rows that are used are decoded.

Labels: if the metadata of the files name the classes, labels must be in 0..C-1. Otherwise the distinct labels of the
training files, in ascending order, are the classes: 1..10 becomes 0..9, and 0..9 does not change. A negative label
("unlabelled" on the hub) and a test label that no training file has are errors.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmbench.data.base import DATASETS, InputShape, Stamp, content_hash
from mmbench.data.images import ImageDataset, Sample, channels_of, opened
from mmbench.data.parquet_files import Columns, Files, encoded_images, find_columns, find_files, labels_of, row_name
from mmbench.errors import DataError


@dataclass(frozen=True)
class _Shards:
    """The rows of some files, one after the other, with their labels in 0..classes-1."""

    where: str
    files: Sequence[Stamp]
    labels: Sequence[np.ndarray]
    column: str

    def __len__(self) -> int:
        return sum(len(labels) for labels in self.labels)

    def samples(self, rows: Sequence[int]) -> Iterator[Sample]:
        start = 0
        for file, labels in zip(self.files, self.labels, strict=True):
            first, last = np.searchsorted(rows, [start, start + len(labels)])
            local = [row - start for row in rows[first:last]]
            for row, image in zip(local, encoded_images(file, self.column, local), strict=True):
                yield Sample(row_name(file, row), image, int(labels[row]))
            start += len(labels)


class _Source(NamedTuple):
    """Content of the files: both pools, the number of classes, channels and (width, height) of the first image."""

    train: _Shards
    test: _Shards
    classes: int
    channels: int
    size: tuple[int, int]


@DATASETS.register("parquet")
class ParquetImages(ImageDataset):
    """A folder of parquet files with a column of images and a column of labels."""

    path: str | None = None
    """The folder of train*.parquet and test*.parquet files; relative to the current directory."""
    image: str | None = None
    """Column of the images; null for the only binary column."""
    label: str | None = None
    """Column of the labels; null to find it by its name."""

    @property
    def title(self) -> str:
        """The name of the folder."""
        return Path(self.path).absolute().name if self.path else self.name

    def shape(self) -> InputShape:
        """From the metadata, the labels and the first training image; checks the sizes and all labels.

        Returns:
            The shape, without decoding the images.

        Raises:
            ConfigError: `path` is missing, or a column is missing or ambiguous.
            DataError: the files, the sizes, a label or the first image cannot be used.
        """
        source = self._source()
        self.sizes(source.train, source.test)
        width, height = source.size
        if self.image_size is None and width != height:
            raise DataError(
                f"{row_name(source.train.files[0], 0)}: the image has {width}x{height} pixels and networks take "
                "squares; set dataset.image_size to crop and resize all images"
            )
        return InputShape(self.channels or source.channels, self.image_size or width, source.classes)

    def pools(self) -> tuple[_Shards, _Shards]:
        """The training and the test files."""
        source = self._source()
        return source.train, source.test

    def fingerprint(self) -> dict[str, Any]:
        """The options, with a hash of the files' bytes in place of `path`."""
        files = find_files(self.path)
        named = [(split, file) for split, part in files._asdict().items() for file in part]
        return {**self.describe(), "path": content_hash(named)}

    def _source(self) -> _Source:
        return _read_source(find_files(self.path), self.image, self.label)


@functools.lru_cache(maxsize=64)
def _read_source(files: Files, image: str | None, label: str | None) -> _Source:
    """Everything but the pixels; cached, since planning a sweep needs it once per run."""
    columns = find_columns([*files.train, *files.test], image, label)
    values = _class_values(files.train, columns)
    train, test = (
        _Shards(f"the {name} files in {part[0].path.parent}", part, _encoded(part, columns, values), columns.image)
        for name, part in zip(("training", "test"), files, strict=True)
    )
    if not len(train.labels[0]):
        raise DataError(f"{files.train[0].path} has no rows; the training files must hold images")
    first = next(train.samples([0]))
    header = opened(first.where, first.image)
    return _Source(train, test, len(values), channels_of(header), header.size)


def _class_values(train: Sequence[Stamp], columns: Columns) -> np.ndarray:
    """The stored label of each class, ascending."""
    if columns.named_classes is not None:
        return np.arange(columns.named_classes)
    stored = [labels_of(file, columns.label) for file in train]
    for file, labels in zip(train, stored, strict=True):
        _refuse(file, columns, labels < 0, "negative, which means an unlabelled image")
    return np.unique(np.concatenate(stored))


def _encoded(files: Sequence[Stamp], columns: Columns, values: np.ndarray) -> list[np.ndarray]:
    """The labels of the files as class numbers; a label that is not a class is a `DataError`."""
    encoded = []
    for file in files:
        labels = labels_of(file, columns.label)
        known = np.isin(labels, values)
        source = "among the training labels" if columns.named_classes is None else "named in the metadata"
        _refuse(file, columns, ~known, f"not one of the {len(values)} classes ({_range(values)}) {source}")
        encoded.append(np.searchsorted(values, labels))
    return encoded


def _range(values: np.ndarray) -> str:
    return f"{values[0]}..{values[-1]}" if len(values) else "none"


def _refuse(file: Stamp, columns: Columns, wrong: np.ndarray, reason: str) -> None:
    """Raise `DataError` for the first row that is wrong, if any."""
    if wrong.any():
        row = int(wrong.argmax())
        label = labels_of(file, columns.label)[row]
        raise DataError(f"{row_name(file, row)}: the label {label} (column {columns.label!r}) is {reason}")
