"""Parquet files of encoded images and integer labels, as the Hugging Face hub exports them.

`path` holds `train*.parquet` and `test*.parquet` (without those, `val*.parquet` is the test split), each in any number
of shards, directly or in a sub-folder such as `data/`. Only the rows that are used are decoded.

Labels: where the files' metadata names the classes, labels must lie in 0..C-1. Otherwise the distinct labels of the
training files, in ascending order, are the classes: 1..10 becomes 0..9, and 0..9 stays as it is. A negative label
(the hub's sign for "unlabelled") and a test label that no training file has are errors.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mmbench.data.base import InputShape, Stamp, content_hash
from mmbench.data.images import ImageDataset, Sample, channels_of, opened
from mmbench.data.parquet_files import Columns, encoded_images, find_columns, find_files, labels_of, row_name
from mmbench.errors import DataError
from mmbench.registry import DATASETS

if TYPE_CHECKING:
    import numpy as np


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
        import numpy as np

        start = 0
        for file, labels in zip(self.files, self.labels, strict=True):
            here = np.asarray(rows)[np.searchsorted(rows, start) : np.searchsorted(rows, start + len(labels))] - start
            for row, image in zip(here.tolist(), encoded_images(file, self.column, here), strict=True):
                yield Sample(row_name(file, row), image, int(labels[row]))
            start += len(labels)


@DATASETS.register("parquet")
class ParquetImages(ImageDataset):
    """A folder of parquet files with a column of images and a column of labels."""

    path: str | None = None
    """The folder of train*.parquet and test*.parquet files; relative to the current directory."""
    image: str | None = None
    """Column of the images; null for the only binary one."""
    label: str | None = None
    """Column of the labels; null to find it by its name."""

    def shape(self) -> InputShape:
        """Read off the metadata, the first training image and, where classes have no names, the training labels.

        Raises:
            ConfigError: `path` is missing, or a column is missing or ambiguous.
            DataError: The files, the first image or the labels cannot be used.
        """
        train, test = find_files(self.path)
        columns = find_columns([*train, *test], self.image, self.label)
        classes = len(_class_values(train, columns))
        if self.image_size is not None and self.channels is not None:
            return InputShape(self.channels, self.image_size, classes)
        channels, (width, height) = _first_image(train[0], columns.image)
        if self.image_size is None and width != height:
            raise DataError(
                f"{row_name(train[0], 0)}: the image has {width}x{height} pixels and networks take squares; "
                "set dataset.image_size to crop and resize all images"
            )
        return InputShape(self.channels or channels, self.image_size or width, classes)

    def pools(self) -> tuple[_Shards, _Shards]:
        """The training and the test files, all of their labels checked."""
        train, test = find_files(self.path)
        columns = find_columns([*train, *test], self.image, self.label)
        values = _class_values(train, columns)
        return (
            _Shards(f"the training files of {self.path}", train, _encoded(train, columns, values), columns.image),
            _Shards(f"the test files of {self.path}", test, _encoded(test, columns, values), columns.image),
        )

    def fingerprint(self) -> dict[str, Any]:
        """The options with the bytes of the files, in their order, in place of `path`."""
        files = find_files(self.path)
        named = [(split, file) for split, part in files._asdict().items() for file in part]
        return {**self.describe(), "path": content_hash(named)}


def _class_values(train: Sequence[Stamp], columns: Columns) -> np.ndarray:
    """The stored label of each class, ascending."""
    import numpy as np

    if columns.named_classes is not None:
        return np.arange(columns.named_classes)
    values = np.unique(np.concatenate([labels_of(file, columns.label) for file in train]))
    if not len(values):
        raise DataError(f"{train[0].path} has no rows; the training files must hold images")
    for file in train if values[0] < 0 else ():
        _refuse(file, columns, labels_of(file, columns.label) < 0, "negative, which stands for an unlabelled image")
    return values


def _encoded(files: Sequence[Stamp], columns: Columns, values: np.ndarray) -> list[np.ndarray]:
    """The files' labels as class numbers; a label that is no class is a `DataError`."""
    import numpy as np

    encoded = []
    for file in files:
        labels = labels_of(file, columns.label)
        numbers = np.searchsorted(values, labels).clip(max=len(values) - 1)
        known = "in its metadata" if columns.named_classes is not None else "among the training labels"
        reason = f"not a class: {len(values)} classes, {values[0]}..{values[-1]}, are {known}"
        _refuse(file, columns, values[numbers] != labels, reason)
        encoded.append(numbers)
    return encoded


def _refuse(file: Stamp, columns: Columns, wrong: np.ndarray, reason: str) -> None:
    """Raise `DataError` for the first row that is wrong, if any."""
    if wrong.any():
        row = int(wrong.argmax())
        label = labels_of(file, columns.label)[row]
        raise DataError(f"{row_name(file, row)}: the label {label} (column {columns.label!r}) is {reason}")


@functools.lru_cache(maxsize=256)
def _first_image(file: Stamp, column: str) -> tuple[int, tuple[int, int]]:
    """Channels and (width, height) of a file's first image."""
    for encoded in encoded_images(file, column, [0]):
        image = opened(row_name(file, 0), encoded)
        return channels_of(image), image.size
    raise DataError(f"{file.path} has no rows; the training files must hold images")
