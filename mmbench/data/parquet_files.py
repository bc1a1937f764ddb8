"""Reading folders of parquet files: the files of each split, and the columns of images and labels."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as types

from mmbench.data.base import Stamp
from mmbench.errors import ConfigError, DataError

LABEL_NAMES = ("label", "labels", "fine_label", "target", "targets", "class", "class_label")
WORDS = {"train": ("train", "training"), "test": ("test", "testing"), "val": ("val", "valid", "validation", "dev")}
"""The words in the names of files and folders that tell the splits apart."""
LAYOUTS = ("*", "*/*", "*/*/*")  # path/train-0, path/data/train-0, path/config/train/0
BATCH = 1024  # rows decoded from a row group at a time


class Files(NamedTuple):
    """A data set's files, in order."""

    train: tuple[Stamp, ...]
    test: tuple[Stamp, ...]
    validation: tuple[Stamp, ...] = ()
    """None if images are held out of the training files."""


class Columns(NamedTuple):
    """The names of the two columns, and the number of classes in the metadata of the file (None if it has none)."""

    image: str
    label: str
    named_classes: int | None


def find_files(
    path: str | None, train: str | None = None, validation: str | None = None, test: str | None = None
) -> Files:
    """The shards of each split in a folder or in its sub-folders, by a word in their names.

    Args:
        path: the folder; relative to the current directory.
        train: the word of the training files; None for those of `WORDS`.
        validation: that of the validation files; None for no such files.
        test: that of the test files; None for those of `WORDS`, validation files where there are no test files.

    Returns:
        The files of both splits, in the order of their names.

    Raises:
        ConfigError: no path is given.
        DataError: the folder, its training files, its test files or a shard is missing, or it holds several data sets.
    """
    if path is None:
        raise ConfigError("dataset.path is needed: the folder of train*.parquet and test*.parquet files")
    root = Path(path).expanduser().absolute()
    if not root.is_dir():
        state = "is a file" if root.exists() else "does not exist"
        raise DataError(
            f"dataset.path = {path!r} {state}; give the folder of train*.parquet and test*.parquet files"
            + ("" if Path(path).is_absolute() else f" (relative paths start from {Path.cwd()})")
        )
    words = {
        **WORDS,
        **{key: (word,) for key, word in (("train", train), ("held", validation), ("test", test)) if word},
    }
    sets: dict[Path, dict[str, list[Path]]] = {}
    found = (file for layout in LAYOUTS for file in root.glob(layout))
    for file in sorted(file for file in found if not _is_hidden(file.relative_to(root)) and _is_parquet(file)):
        for home, name in ((file.parent, file.name), (file.parent.parent, file.parent.name)):
            splits = [split for split, names in words.items() if any(_has_word(name, word) for word in names)]
            if splits and home.is_relative_to(root):
                for split in splits:
                    sets.setdefault(home, {}).setdefault(split, []).append(file)
                break
    whole = {home: splits for home, splits in sets.items() if "train" in splits}
    return _complete(root, whole, "held" if validation else None, named_test=test is not None, words=words)


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() == ".parquet"


def _has_word(name: str, word: str) -> bool:
    """Whether a file name has a word, in whatever case: `mnist_train.parquet` has train, `trainers.parquet` has not."""
    return re.search(rf"(?<![a-z]){re.escape(word.lower())}(?![a-z])", name.lower()) is not None


def _complete(
    root: Path,
    sets: dict[Path, dict[str, list[Path]]],
    validation: str | None,
    named_test: bool,
    words: dict[str, tuple[str, ...]],
) -> Files:
    """The files of the only data set; `DataError` if there is another number of data sets or a file is missing."""
    if not sets:
        raise DataError(
            f"dataset.path = {str(root)!r} has no parquet file with {' or '.join(words['train'])} in its name, nor has "
            "any folder in it; dataset.train_split names another word"
        )
    if len(sets) > 1:
        raise DataError(
            f"dataset.path = {str(root)!r} holds {len(sets)} data sets; choose one: {', '.join(sorted(map(str, sets)))}"
        )
    [(home, splits)] = sets.items()
    test = splits.get("test") or (None if named_test else splits.get("val"))
    if not test:
        asked = words["test"] if named_test else (*words["test"], *words["val"])
        raise DataError(
            f"{home} has training files but no parquet file with {' or '.join(asked)} in its name; add the test "
            "files, or name them by dataset.test_split"
        )
    held = splits.get(validation, []) if validation else []
    if validation and not held:
        raise DataError(f"{home} has no parquet file with {words['held'][0]} in its name (dataset.validation_split)")
    for first, second in (("train", test), ("train", held), ("test", held)):
        if shared := set(splits.get(first, [])) & set(second):
            raise DataError(
                f"{min(shared)} has the words of two splits in its name; set dataset.train_split, validation_split and "
                "test_split to words that tell the files apart"
            )
    for files in filter(None, (splits["train"], test, held)):
        shards = re.search(r"-of-(\d+)", files[0].name)
        if shards and int(shards[1]) != len(files):
            names = ", ".join(file.name for file in files)
            raise DataError(
                f"{home} has {len(files)} of {int(shards[1])} shards ({names}); fetch the others, or remove extra ones"
            )
    return Files(*(tuple(map(Stamp.of, files)) for files in (splits["train"], test, held)))


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn pyarrow's errors into a `DataError` that names the file."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read as a parquet file: {error}") from error


@functools.lru_cache(maxsize=256)
def schema_of(file: Stamp) -> pa.Schema:
    """The file's columns, their types and its metadata."""
    with reading(file.path):
        return pq.read_schema(file.path)


def find_columns(files: Sequence[Stamp], image: str | None, label: str | None) -> Columns:
    """The image and label columns of files.

    Args:
        files: at least one; the first decides.
        image: name of the column of images; None for the only one of image bytes.
        label: name of the column of labels; None for the only one that is named or declared as a label.

    Returns:
        The names of both columns and, if the metadata name the classes, their number.

    Raises:
        ConfigError: a named column does not exist or has the wrong type; or no name is given and no column or several
            columns fit.
        DataError: another file lacks one of the two columns.
    """
    schema = schema_of(files[0])
    images = [field.name for field in schema if _holds_images(field.type)]
    integers = [field.name for field in schema if _holds_labels(field.type)]
    features = _features(schema)
    known = [name for name in integers if name.lower() in LABEL_NAMES]
    declared = [name for name in integers if features.get(name, {}).get("_type") == "ClassLabel"]
    image = _chosen("image", image, images, images, schema)
    label = _chosen("label", label, integers, known or declared, schema)
    for file in files[1:]:
        for name, allowed in ((image, _holds_images), (label, _holds_labels)):
            if name not in schema_of(file).names or not allowed(schema_of(file).field(name).type):
                raise DataError(
                    f"{file.path} has no column {name!r} as {files[0].path.name} has it: {_listed(schema_of(file))}"
                )
    names = features.get(label, {}).get("names")
    for file in files[1:]:
        theirs = _features(schema_of(file)).get(label, {}).get("names")
        if theirs is not None and names is not None and theirs != names:
            raise DataError(
                f"{file.path} names the classes of column {label!r} otherwise than {files[0].path.name} does "
                f"({theirs[:5]}, not {names[:5]}), so their labels would not agree"
            )
    return Columns(image, label, len(names) if names else None)


def _chosen(option: str, name: str | None, allowed: list[str], likely: list[str], schema: pa.Schema) -> str:
    """The column called `name`, or the only likely one."""
    kind = {
        "image": "image bytes (binary, or a struct with a binary field 'bytes')",
        "label": "labels (integers, texts, true and false)",
    }[option]
    if name is not None and name not in allowed:
        raise ConfigError(f"dataset.{option} = {name!r} is not a column of {kind}; the columns are: {_listed(schema)}")
    if name is None and len(likely) != 1:
        state = f"may be {' or '.join(likely)}" if likely else "was not found"
        raise ConfigError(
            f"dataset.{option} is needed: the column of {kind} {state}; the columns are: {_listed(schema)}"
        )
    return likely[0] if name is None else name


def _holds_images(kind: pa.DataType) -> bool:
    if types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _holds_images(kind.field(index).type)
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _holds_labels(kind: pa.DataType) -> bool:
    if types.is_dictionary(kind):
        return _holds_labels(kind.value_type)
    texts = types.is_string(kind) or types.is_large_string(kind)
    return bool(texts or types.is_integer(kind) or types.is_boolean(kind) or types.is_floating(kind))


def _features(schema: pa.Schema) -> dict[str, Any]:
    """The features in the metadata of a Hugging Face export; empty if there are none."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: feature for name, feature in features.items() if isinstance(feature, dict)}
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}


def _listed(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in schema)


@functools.lru_cache(maxsize=256)
def labels_of(file: Stamp, column: str) -> np.ndarray:
    """The label column (N,) as integers or texts; `DataError` names the first row without a label."""
    with reading(file.path):
        labels = pq.ParquetFile(file.path).read(columns=[column]).column(0)
        if types.is_dictionary(labels.type):
            labels = labels.cast(labels.type.value_type)
        kind = labels.type
        if not (types.is_string(kind) or types.is_large_string(kind)):
            if types.is_floating(kind):
                _require_whole(file, column, labels)
                labels = labels.cast("float64")
            labels = labels.cast("int64")
    if labels.null_count:
        row = pc.index(pc.is_null(labels), True).as_py()
        raise DataError(f"{row_name(file, row)}: the label (column {column!r}) is null")
    if types.is_int64(labels.type):
        # Not labels.to_numpy(), which would import pandas.
        values = np.concatenate([np.empty(0, np.int64), *map(np.from_dlpack, labels.chunks)])
    else:
        values = np.array(labels.to_pylist(), dtype=str)
    values.setflags(write=False)  # shared by all callers
    return values


def _require_whole(file: Stamp, column: str, labels: pa.ChunkedArray) -> None:
    known = pc.drop_null(labels.cast("float64"))
    broken = pc.invert(pc.and_(pc.is_finite(known), pc.equal(known, pc.round(known))))
    if pc.any(broken).as_py():
        value = known.filter(broken)[0].as_py()
        raise DataError(f"{file.path}: the label {value} (column {column!r}) is not a whole number")


def encoded_images(file: Stamp, column: str, rows: Sequence[int]) -> Iterator[bytes]:
    """Read the image files stored in some rows; row groups without any of them are skipped.

    Args:
        file: a parquet file.
        column: of bytes, or of structs with a field `bytes`.
        rows: numbered from 0, in ascending order.

    Yields:
        The bytes of one image file per row.

    Raises:
        DataError: the file is damaged, or a row holds no bytes.
    """
    wanted, end = np.asarray(rows), 0
    with reading(file.path):
        parquet = pq.ParquetFile(file.path, buffer_size=1 << 20)
        for group in range(parquet.num_row_groups):
            start, end = end, end + parquet.metadata.row_group(group).num_rows
            if not ((wanted >= start) & (wanted < end)).any():
                continue
            for batch in parquet.iter_batches(BATCH, row_groups=[group], columns=[column]):
                images = batch.column(0)
                if hasattr(images.type, "get_field_index"):
                    images = pc.struct_field(images, "bytes")
                in_batch = wanted[(wanted >= start) & (wanted < start + len(images))]
                for row in in_batch.tolist():
                    yield _not_empty(file, row, column, images[row - start].as_py())
                start += len(images)


def _not_empty(file: Stamp, row: int, column: str, image: bytes | None) -> bytes:
    if not image:
        state = "null" if image is None else "empty"
        raise DataError(
            f"{row_name(file, row)}: the image bytes (column {column!r}) are {state}; export the images inside the file"
        )
    return image


def row_name(file: Stamp, row: int) -> str:
    """The location of a row, for messages."""
    return f"{file.path}, row {row} (counted from 0)"
