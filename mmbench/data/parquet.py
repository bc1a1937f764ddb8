"""Parquet files of encoded images and labels, as the Hugging Face hub exports them.

`path` holds files with `train` and `test` in their names, as words (if there is no test file, `val`, `valid`,
`validation` or `dev`), each in any number of shards, directly or in a sub-folder such as `data/`. The options
`train_split`, `validation_split` and `test_split` choose other files. Only the rows that are used are decoded.

Labels are integers, texts (also encoded as a dictionary), true and false, or whole numbers stored as floats. If the
metadata of the files name the classes, integer labels must be in 0..C-1. Otherwise the distinct labels of the training
files, in ascending order, are the classes: 1..10 becomes 0..9, and 0..9 does not change. A negative label ("unlabelled"
on the hub) and a test label that no training file has are errors.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmbench.data.base import DATASETS, InputShape, Stamp, content_hash, digests
from mmbench.data.images import ImageDataset, Sample, channels_of, opened, size_of
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
    """Content of the files: the pools, the number of classes, channels and (width, height) of the first image."""

    train: _Shards
    test: _Shards
    validation: _Shards | None
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
    train_split: str | None = None
    """The word in the names of the training files; null for train or training."""
    validation_split: str | None = None
    """The same for validation; null to hold images out of the training files."""
    test_split: str | None = None
    """The same for testing; null for test, or validation where there is none."""

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
        self.sizes(source.train, source.test, source.validation)
        width, height = source.size
        if self.image_size is None and width != height:
            raise DataError(
                f"{next(source.train.samples([0])).where}: the image has {width}x{height} pixels and networks take "
                "squares; set dataset.image_size to crop and resize all images"
            )
        return InputShape(self.channels or source.channels, self.image_size or width, source.classes)

    def pools(self) -> tuple[_Shards, _Shards]:
        """The training and the test files."""
        source = self._source()
        return source.train, source.test

    def held_out(self) -> _Shards | None:
        """The validation files, if they are named."""
        return self._source().validation

    def fingerprint(self) -> dict[str, Any]:
        """The options, with a hash of the files' bytes in place of `path`."""
        named = [(split, file) for split, part in self._files()._asdict().items() for file in part]
        return {**self.describe(), "path": content_hash(named)}

    def _files(self) -> Files:
        return find_files(self.path, self.train_split, self.validation_split, self.test_split)

    def _source(self) -> _Source:
        return _read_source(self._files(), self.image, self.label)


@functools.lru_cache(maxsize=64)
def _read_source(files: Files, image: str | None, label: str | None) -> _Source:
    """Everything but the pixels; cached, since planning a sweep needs it once per run."""
    everything = [file for part in files for file in part]
    columns = find_columns(everything, image, label)
    for name, part in files._asdict().items():
        if part and not any(len(labels_of(file, columns.label)) for file in part):
            listed = ", ".join(file.path.name for file in part)
            raise DataError(f"{part[0].path.parent}: the {name} files ({listed}) have no rows; they must hold images")
    values = _class_values(files.train, columns)
    if len(values) < 2:
        raise DataError(
            f"the training files in {files.train[0].path.parent} have one class only ({values[0]!r} in column "
            f"{columns.label!r}); a data set needs two"
        )
    trained = set(digests(files.train))
    if trained.issuperset(digests(files.test)):
        raise DataError(
            f"{', '.join(file.path.name for file in files.test)}: the test files are copies of the training files"
        )
    train, test, validation = (
        _Shards(f"the {name} files in {part[0].path.parent}", part, _encoded(part, columns, values), columns.image)
        if part
        else None
        for name, part in (("training", files.train), ("test", files.test), ("validation", files.validation))
    )
    assert train is not None and test is not None
    first = next(train.samples([0]))
    header = opened(first.where, first.image)
    return _Source(train, test, validation, len(values), channels_of(header), size_of(header))


def _class_values(train: Sequence[Stamp], columns: Columns) -> np.ndarray:
    """The stored label of each class, ascending."""
    if columns.named_classes is not None:
        return np.arange(columns.named_classes)
    kinds = {labels_of(file, columns.label).dtype.kind for file in train}
    if len(kinds) > 1:
        raise DataError(f"the labels (column {columns.label!r}) are texts in some training files and numbers in others")
    stored = [labels_of(file, columns.label) for file in train]
    for file, labels in zip(train, stored, strict=True):
        if labels.dtype.kind == "i":
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
