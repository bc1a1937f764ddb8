from __future__ import annotations

import io
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from mmbench.data.base import DATASETS, InputShape
from mmbench.data.parquet import ParquetImages
from mmbench.errors import ConfigError, DataError
from mmbench.testing.datasets import assert_disjoint_and_normalised, assert_same

from .conftest import encode, noise, write


def make(folder: Path, **options: Any) -> ParquetImages:
    dataset = DATASETS.create({"name": "parquet", "path": str(folder), **options})
    assert isinstance(dataset, ParquetImages)
    return dataset


def test_loads_disjoint_normalised_splits(folder: Path) -> None:
    data = make(folder, train_size=30).load()
    assert [len(split) for split in (data.train, data.validation, data.test)] == [30, 4, 12]
    assert data.shape == make(folder).shape() == InputShape(3, 6, 4)
    assert data.train.images.dtype == torch.float32
    assert data.train.labels.dtype == torch.int64
    assert_disjoint_and_normalised(data)


def test_every_image_keeps_its_label(tmp_path: Path) -> None:
    def grey(values: range) -> list[Image.Image]:
        return [Image.new("L", (4, 4), value) for value in values]

    write(tmp_path / "train-0.parquet", list(range(23)), images=grey(range(23)))
    write(tmp_path / "train-1.parquet", list(range(23, 50)), images=grey(range(23, 50)))
    write(tmp_path / "test.parquet", list(range(50)), images=grey(range(50)))
    data = make(tmp_path, train_size=45).load()
    assert sorted([*data.train.labels.tolist(), *data.validation.labels.tolist()]) == list(range(50))
    values = data.train.labels.float()
    expected = (values - values.mean()) / values.std()  # pixels are as many repetitions of one value, so nearly so
    for split in (data.train, data.validation, data.test):
        scale = torch.corrcoef(torch.stack([split.images[:, 0, 2, 3], split.labels.float()]))
        assert scale[0, 1] > 1 - 1e-6
    assert torch.allclose(data.train.images[:, 0, 0, 0], expected, rtol=0.02, atol=1e-3)


def test_classes_of_sorted_files_are_all_chosen(folder: Path) -> None:
    data = make(folder, train_size=20).load()
    assert (data.train.labels.bincount(minlength=4) >= 2).all()
    assert len(data.train.labels[:8].unique()) >= 3, "the first images must not be of one class"


def test_sizes_nest_and_leave_other_splits_alone(folder: Path) -> None:
    def labels(**options: Any) -> tuple[list[int], list[int], list[int]]:
        data = make(folder, **options).load()
        return data.train.labels.tolist(), data.validation.labels.tolist(), data.test.labels.tolist()

    large, small = labels(train_size=30, validation_size=5), labels(train_size=10, validation_size=5, test_size=3)
    assert small[0] == large[0][:10]
    assert small[1] == large[1]
    assert small[2] == large[2][:3]


@pytest.mark.parametrize(
    ("mode", "options", "expected"),
    [
        ("L", {}, (1, 6)),
        ("RGB", {}, (3, 6)),
        ("RGB", {"channels": 1}, (1, 6)),
        ("L", {"channels": 3}, (3, 6)),
        ("RGB", {"image_size": 4}, (3, 4)),
        ("L", {"image_size": 9, "channels": 3}, (3, 9)),
    ],
    ids=["grey", "colour", "colour made grey", "grey made colour", "made smaller", "made larger and colour"],
)
def test_channels_and_size(tmp_path: Path, mode: str, options: dict[str, Any], expected: tuple[int, int]) -> None:
    write(tmp_path / "train.parquet", [0, 1] * 10, mode=mode)
    write(tmp_path / "test.parquet", [0, 1], mode=mode, seed=1)
    dataset = make(tmp_path, **options)
    assert dataset.shape() == InputShape(*expected, classes=2)
    assert dataset.load().train.images.shape[1:] == (expected[0], expected[1], expected[1])


def test_mixed_sizes_and_grey_among_colour_are_converted_when_asked(tmp_path: Path) -> None:
    images = [*noise(9), *noise(9, (11, 5)), *noise(2, mode="L")]
    write(tmp_path / "train.parquet", [0, 1] * 10, images=images)
    write(tmp_path / "test.parquet", [0, 1], seed=1)
    assert make(tmp_path, image_size=5).load().shape == InputShape(3, 5, 2)


def test_resizing_averages_and_keeps_the_centre(tmp_path: Path) -> None:
    wide = np.zeros((8, 32), np.uint8)
    wide[:, 4:28] = 200  # uniform in and near the central square; the dark margins are cropped
    images = [Image.fromarray(wide), Image.new("L", (8, 8), 200), Image.new("L", (8, 8), 0)] * 4
    write(tmp_path / "train.parquet", [0, 0, 1] * 4, images=images)
    write(tmp_path / "test.parquet", [0, 0, 1] * 3, images=images[:9])
    data = make(tmp_path, image_size=2).load()
    bright, dark = (data.test.images[data.test.labels == label] for label in (0, 1))
    assert len(bright.unique()) == len(dark.unique()) == 1
    assert bright.min() > dark.max()


def test_large_jpegs_are_resized_like_other_images(tmp_path: Path) -> None:
    """They are decoded at a fraction of their size, which must not show."""
    waves = np.sin(np.arange(160)[:, None, None] / 4 + np.arange(200)[None, :, None] / 5 + np.arange(3))
    image = Image.fromarray((127 + 120 * waves).astype(np.uint8))
    write(tmp_path / TRAIN, [0, 1] * 10, images=[encode(image, "JPEG"), *noise(19)])
    write(tmp_path / TEST, [0, 1], images=[encode(image, "JPEG"), image])
    data = make(tmp_path, image_size=40).load()
    assert (data.test.images[0] - data.test.images[1]).abs().mean() < 0.1
    assert data.test.images[0].std() > 0.5


@pytest.mark.parametrize(
    ("train", "test"),
    [
        (["train.parquet"], ["test.parquet"]),
        (["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"], ["data/test-0.parquet"]),
        (["train/0000.parquet", "train/0001.parquet"], ["test/0000.parquet"]),
        (["default/train/0000.parquet"], ["default/validation/0000.parquet"]),
        (["train-0.parquet"], ["validation-0.parquet"]),
        (["train-0.parquet"], ["val.parquet"]),
        (["mnist_train.parquet"], ["mnist_test.parquet"]),
        (["Train.parquet"], ["TEST.parquet"]),
        (["data/my.training-1.parquet"], ["data/my.dev-1.parquet"]),
    ],
    ids=[
        "plain",
        "shards in data/",
        "split folders",
        "configuration folder",
        "validation as test",
        "val as test",
        "after a name",
        "capitals",
        "other words",
    ],
)
def test_finds_the_files(tmp_path: Path, train: list[str], test: list[str]) -> None:
    for seed, name in enumerate([*train, *test]):
        write(tmp_path / name, [0, 1] * 10, seed=seed)
    data = make(tmp_path, validation_size=4).load()
    assert len(data.train) + len(data.validation) == 20 * len(train)
    assert len(data.test) == 20


def test_test_files_are_preferred_to_validation_files(folder: Path) -> None:
    before = make(folder).load()
    write(folder / "validation.parquet", [0, 1, 2, 3], names=4)
    assert_same(before, make(folder).load())


def test_relative_paths_start_from_the_current_directory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    assert_same(make(folder).load(), make(Path(folder.name)).load())


@pytest.mark.parametrize(
    ("names", "extra", "options"),
    [
        (("image", "labels"), {}, {}),
        (("picture", "target"), {"row": [0] * 12}, {}),
        (("img", "fine_label"), {"coarse_label": [0] * 12}, {}),
        (("img", "digit"), {"row": [0] * 12}, {"label": "digit"}),
        (("img", "label"), {"mask": [b"x"] * 12}, {"image": "img"}),
    ],
    ids=["image, labels", "target beside a number", "fine beside coarse", "label by name", "image by name"],
)
def test_finds_the_columns(
    tmp_path: Path, names: tuple[str, str], extra: dict[str, Any], options: dict[str, Any]
) -> None:
    for split in ("train", "test"):
        write(tmp_path / f"{split}.parquet", [0, 1, 2] * 4, columns=names, extra=extra, flat=split == "test")
    assert make(tmp_path, **options).load().classes == 3


def test_a_declared_class_label_is_found_under_any_name(tmp_path: Path) -> None:
    for seed, split in enumerate(("train", "test")):
        options: dict[str, Any] = {"columns": ("img", "mood"), "extra": {"row": [0] * 12}, "names": 5}
        write(tmp_path / f"{split}.parquet", [0, 1, 1] * 4, seed=seed, **options)
    assert make(tmp_path).shape().classes == 5


def test_undeclared_labels_become_classes_in_ascending_order(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", [10, 1, 7] * 8)
    write(tmp_path / "test.parquet", [1, 7, 10, 10])
    data = make(tmp_path).load()
    assert data.classes == 3
    assert sorted(data.test.labels.tolist()) == [0, 1, 2, 2]


def test_only_chosen_rows_are_decoded(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", [0, 1] * 10)
    write(tmp_path / "test.parquet", [0, 1] * 3, images=[b"broken", *noise(5)])
    wrong = [size for size in range(1, 7) if not _loads(make(tmp_path, test_size=size))]
    assert 6 in wrong
    assert wrong == list(range(wrong[0], 7)), "only a choice with the broken row may fail"
    assert wrong[0] > 1


def _loads(dataset: ParquetImages) -> bool:
    try:
        dataset.load()
    except DataError:
        return False
    return True


def test_progress_counts_the_images_of_each_split(folder: Path) -> None:
    shown: list[tuple[str, int]] = []

    def progress(items: Any, title: str) -> Any:
        shown.append((title, len(items)))
        return items

    make(folder, train_size=20).load(progress)
    assert shown == [("reading train images", 20), ("reading validation images", 4), ("reading test images", 12)]


def test_fingerprint_follows_content_and_options_alone(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    first = make(folder).fingerprint()
    moved = tmp_path_factory.mktemp("elsewhere") / "copy" / "data"
    shutil.copytree(folder, moved)
    assert make(moved).fingerprint() == first
    assert make(folder, train_size=20).fingerprint() != first
    test = moved / "test-00000-of-00001.parquet"
    changed = test.read_bytes().replace(b"IHDR", b"IHDS", 1)
    assert len(changed) == test.stat().st_size
    test.write_bytes(changed)
    os.utime(test, ns=(1, 1))  # a file system with coarse times must not hide the change from this test
    assert make(moved).fingerprint() != first


def test_fingerprint_tells_training_from_test_files(tmp_path: Path) -> None:
    write(tmp_path / "one" / "train.parquet", [0, 1] * 10)
    write(tmp_path / "one" / "test.parquet", [0, 1] * 9)
    (tmp_path / "two").mkdir()
    (tmp_path / "one" / "train.parquet").rename(tmp_path / "two" / "test.parquet")
    (tmp_path / "one" / "test.parquet").rename(tmp_path / "two" / "train.parquet")
    write(tmp_path / "one" / "train.parquet", [0, 1] * 10)
    write(tmp_path / "one" / "test.parquet", [0, 1] * 9)
    assert make(tmp_path / "one").fingerprint() != make(tmp_path / "two").fingerprint()


Spoil = Callable[[Path], Any]
TRAIN, TEST = "train.parquet", "test.parquet"
JPEG = encode(noise(1, (32, 32))[0], "JPEG")


def _images(*last: Any) -> list[Any]:
    return [*noise(20 - len(last)), *last]


WRONG_FILES: dict[str, tuple[Spoil, list[str]]] = {
    "no such folder": (shutil.rmtree, ["dataset.path = ", "does not exist", "train*.parquet and test*.parquet"]),
    "a file": (lambda d: (shutil.rmtree(d), d.write_text("")), ["is a file", "give the folder"]),
    "no training file": (
        lambda d: (d / TRAIN).unlink(),
        ["no parquet file with train or training in its name", "dataset.train_split"],
    ),
    "no test file": (
        lambda d: (d / TEST).unlink(),
        ["no parquet file with test or testing or val", "dataset.test_split"],
    ),
    "two data sets": (lambda d: write(d / "tiny" / TRAIN, [0, 1]), ["holds 2 data sets", "choose one", "tiny"]),
    "a missing shard": (
        lambda d: (d / TRAIN).rename(d / "train-00000-of-00003.parquet"),
        ["has 1 of 3 shards", "train-00000-of-00003.parquet"],
    ),
    "empty file": (lambda d: (d / TRAIN).write_bytes(b""), [TRAIN, "cannot be read as a parquet file"]),
    "no parquet file": (lambda d: (d / TEST).write_text("hello, world"), [TEST, "cannot be read as a parquet file"]),
    "damaged in the middle": (lambda d: _damage(d / TRAIN), [TRAIN]),
    "no rows": (lambda d: write(d / TRAIN, [], names=2), [TRAIN, "have no rows"]),
    "other columns in a shard": (
        lambda d: write(d / TEST, [0, 1], columns=("img", "y"), names=2),
        [TEST, "no column 'label'", "y (int64)"],
    ),
    "null label": (lambda d: write(d / TEST, [0, None], names=2), [TEST, "row 1 (counted from 0)", "label", "null"]),
    "label beyond the names": (
        lambda d: write(d / TRAIN, [0, 1] * 9 + [2, 0], names=2),
        [TRAIN, "row 18", "label 2", "2 classes (0..1) named in the metadata"],
    ),
    "negative label": (lambda d: write(d / TRAIN, [0, 1, -1]), [TRAIN, "row 2", "label -1", "unlabelled"]),
    "test label unknown in training": (
        lambda d: (write(d / TRAIN, [1, 2] * 10), write(d / TEST, [1, 3])),
        [TEST, "row 1", "label 3", "2 classes (1..2) among the training labels"],
    ),
    "null image": (lambda d: write(d / TRAIN, [0, 1] * 10, images=_images(None)), [TRAIN, "row 19", "bytes", "null"]),
    "empty image": (lambda d: write(d / TRAIN, [0, 1] * 10, images=_images(b"")), [TRAIN, "row 19", "bytes", "empty"]),
    "no image": (
        lambda d: write(d / TRAIN, [0, 1] * 10, images=_images(b"hello")),
        [TRAIN, "row 19", "cannot be opened", "not a known image format"],
    ),
    "truncated JPEG": (
        lambda d: write(d / TEST, [0, 1], images=[*noise(1), JPEG[:-500]]),
        [TEST, "row 1", "truncated"],
    ),
    "16-bit image": (
        lambda d: write(d / TEST, [0, 1], images=[*noise(1), Image.fromarray(np.zeros((6, 6), np.uint16))]),
        [TEST, "row 1", "more than 8 bits", "I;16"],
    ),
    "colour among grey": (lambda d: write(d / TRAIN, [0, 1] * 10, mode="L"), [TEST, "row 0", "colour", "channels"]),
}


def _damage(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[4 : len(content) // 2] = bytes(len(content) // 2 - 4)
    file.write_bytes(bytes(content))


@pytest.mark.parametrize(("spoil", "fragments"), WRONG_FILES.values(), ids=WRONG_FILES.keys())
def test_wrong_files_are_explained(tmp_path: Path, spoil: Spoil, fragments: list[str]) -> None:
    folder = tmp_path / "set"
    write(folder / TRAIN, [0, 1] * 10)
    write(folder / TEST, [0, 1] * 3, seed=1)
    make(folder).load()  # all is well, and remembered, before it is spoilt
    spoil(folder)
    with pytest.raises(DataError) as error:
        make(folder, **({"image_size": 6} if JPEG[:-500] in _stored(folder) else {})).load()
    for fragment in fragments:
        assert fragment in str(error.value)


def _stored(folder: Path) -> bytes:
    return (folder / TEST).read_bytes() if (folder / TEST).is_file() else b""


@pytest.mark.parametrize(
    ("size", "fragments"),
    [
        ((5, 6), ["row 0", "5x6", "squares", "dataset.image_size"]),
        ((8, 8), ["row 0", "8x8", "expected 6x6", "dataset.image_size"]),
    ],
    ids=["first image is not square", "sizes differ"],
)
def test_sizes_that_differ_need_an_image_size(tmp_path: Path, size: tuple[int, int], fragments: list[str]) -> None:
    write(tmp_path / TRAIN, [0, 1] * 10, size=size if size == (5, 6) else (6, 6))
    write(tmp_path / TEST, [0, 1] * 3, size=size)
    with pytest.raises(DataError) as error:
        make(tmp_path).load()
    for fragment in fragments:
        assert fragment in str(error.value)
    assert make(tmp_path, image_size=6).load().shape.image_size == 6


@pytest.mark.parametrize(
    ("options", "fragments"),
    [
        ({"train_size": 41}, ["dataset.train_size = 41", "validation_size = 4 (its default)", "45", "hold 40"]),
        ({"train_size": 20, "validation_size": 21}, ["dataset.validation_size = 21 need", "41", "hold 40"]),
        ({"validation_size": 40}, ["dataset.validation_size = 40 need", "41", "hold 40"]),
        ({"test_size": 13}, ["dataset.test_size = 13", "hold 12"]),
    ],
    ids=["train", "train and validation", "nothing left to train on", "test"],
)
def test_sizes_beyond_the_files_are_found_while_planning(
    folder: Path, options: dict[str, Any], fragments: list[str]
) -> None:
    with pytest.raises(DataError) as error:
        make(folder, **options).shape()
    for fragment in fragments:
        assert fragment in str(error.value)


@pytest.mark.parametrize(
    ("options", "columns", "fragments"),
    [
        ({"path": None}, {}, ["dataset.path is needed: the folder of train*.parquet and test*.parquet files"]),
        ({}, {"labels": [0, 1] * 10}, ["dataset.label is needed", "label or labels", "img (struct"]),
        ({"label": "lable"}, {}, ["dataset.label = 'lable'", "integers", "label (int64)"]),
        ({"label": "box"}, {"box": [[1], [2]] * 10}, ["dataset.label = 'box'", "integers", "box (list<"]),
        ({}, {"mask": [b"x"] * 20}, ["dataset.image is needed", "img or mask", "mask (binary)"]),
        ({"image": "label"}, {}, ["dataset.image = 'label'", "img (struct"]),
    ],
    ids=["no path", "two label columns", "misspelt label", "boxes as labels", "two image columns", "numbers as images"],
)
def test_wrong_options_are_explained(
    tmp_path: Path, options: dict[str, Any], columns: dict[str, Any], fragments: list[str]
) -> None:
    write(tmp_path / TRAIN, [0, 1] * 10, extra=columns)
    write(tmp_path / TEST, [0, 1] * 10, extra=columns)
    with pytest.raises(ConfigError) as error:
        make(tmp_path, **options).shape()
    for fragment in fragments:
        assert fragment in str(error.value)


def test_a_file_without_a_likely_label_is_explained(tmp_path: Path) -> None:
    pq.write_table(pa.table({"img": [b"x"], "row": [0]}), tmp_path / TRAIN)
    shutil.copy(tmp_path / TRAIN, tmp_path / TEST)
    with pytest.raises(ConfigError, match=r"dataset.label is needed.*was not found.*row \(int64\)"):
        make(tmp_path).shape()


def test_memory_is_checked_before_any_image_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / TRAIN, [0, 1] * 10, images=_images(b"broken"))
    write(tmp_path / TEST, [0, 1])
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 2**20})())
    with pytest.raises(DataError, match=r"22 images of 3x200x200 need 0.0 GiB of memory, 0.0 GiB are free"):
        make(tmp_path, image_size=200).load()


# -- labels, and files that other people write -------------------------------------------------------------------------

LABELS: dict[str, tuple[pa.Array, list[int]]] = {
    "texts": (pa.array(["dog", "cat", "cow", "cat"] * 5), [2, 0, 1, 0]),
    "a dictionary": (pa.array(["dog", "cat", "cow", "cat"] * 5).dictionary_encode(), [2, 0, 1, 0]),
    "true and false": (pa.array([True, False, True, True] * 5), [1, 0, 1, 1]),
    "whole floats": (pa.array([3.0, 1.0, 2.0, 1.0] * 5), [2, 0, 1, 0]),
    "small integers": (pa.array([7, 5, 6, 5] * 5, pa.uint8()), [2, 0, 1, 0]),
}


def with_labels(file: Path, labels: pa.Array, seed: int, column: str = "Label") -> None:
    write(file, [0] * len(labels), seed=seed, columns=("img", "unused"), extra={column: labels})


@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_every_kind_become_classes(tmp_path: Path, kind: str) -> None:
    labels, expected = LABELS[kind]
    for seed, split in enumerate(("train", "test")):
        with_labels(tmp_path / f"{split}.parquet", labels, seed)
    dataset = make(tmp_path, label=None)
    assert dataset.shape().classes == len(set(expected))
    assert [sample.label for sample in dataset.pools()[0].samples(range(4))] == expected


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (pa.array([0.5, 1.0] * 10), "the label 0.5 (column 'Label') is not a whole number"),
        (pa.array([4, 4] * 10), "have one class only"),
        (pa.array(["a", None] * 10), "row 1 (counted from 0): the label (column 'Label') is null"),
    ],
    ids=["a fraction", "one class", "a missing text"],
)
def test_labels_that_are_no_classes_are_explained(tmp_path: Path, labels: pa.Array, message: str) -> None:
    for seed, split in enumerate(("train", "test")):
        with_labels(tmp_path / f"{split}.parquet", labels, seed)
    with pytest.raises(DataError) as error:
        make(tmp_path, label=None).shape()
    assert message in str(error.value)


def test_an_empty_first_shard_is_no_obstacle(tmp_path: Path) -> None:
    write(tmp_path / "train-0.parquet", [])
    write(tmp_path / "train-1.parquet", [0, 1] * 10)
    write(tmp_path / "test.parquet", [0, 1], seed=1)
    assert make(tmp_path).shape().classes == 2
    assert len(make(tmp_path, validation_size=4).load().train) == 16


def test_the_splits_can_be_chosen(tmp_path: Path) -> None:
    for seed, (name, count) in enumerate({"train": 20, "extra": 24, "valid": 6, "test": 8}.items()):
        write(tmp_path / f"{name}.parquet", [0, 1] * (count // 2), seed=seed)
    own = make(tmp_path, validation_split="valid").load()
    assert [len(split) for split in (own.train, own.validation, own.test)] == [20, 6, 8]
    other = make(tmp_path, train_split="extra", test_split="valid", validation_size=4).load()
    assert [len(split) for split in (other.train, other.validation, other.test)] == [20, 4, 6]
    assert make(tmp_path).fingerprint() != make(tmp_path, validation_split="valid").fingerprint()
    with pytest.raises(DataError, match="no parquet file with nothing in its name"):
        make(tmp_path, validation_split="nothing").shape()


def test_a_file_of_two_splits_or_a_copy_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", [0, 1] * 10)
    shutil.copy(tmp_path / "train.parquet", tmp_path / "test.parquet")
    with pytest.raises(DataError, match="the test files are copies of the training files"):
        make(tmp_path).shape()
    (tmp_path / "test.parquet").unlink()
    (tmp_path / "train.parquet").rename(tmp_path / "train-test.parquet")
    with pytest.raises(DataError, match="has the words of two splits in its name"):
        make(tmp_path).shape()


def test_words_that_only_contain_the_name_of_a_split_do_not_count(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", [0, 1] * 10)
    write(tmp_path / "test.parquet", [0, 1], seed=1)
    write(tmp_path / "testimonials.parquet", [5, 6], seed=2)
    write(tmp_path / "values.parquet", [5, 6], seed=3)
    assert len(make(tmp_path).load().test) == 2


def test_width_and_height_are_those_of_the_upright_image(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    stored = io.BytesIO()
    Image.new("RGB", (8, 4)).save(stored, "JPEG", exif=exif)
    write(tmp_path / "train.parquet", [0, 1], images=[stored.getvalue()] * 2)
    write(tmp_path / "test.parquet", [0, 1], seed=1)
    with pytest.raises(DataError, match="the image has 4x8 pixels"):
        make(tmp_path).shape()


def test_classes_named_otherwise_in_another_file_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", [0, 1] * 10, names=2)
    table = pq.read_table(write(tmp_path / "test.parquet", [0, 1], names=2, seed=1))
    swapped = {b"huggingface": table.schema.metadata[b"huggingface"].replace(b"class 0", b"class 9")}
    pq.write_table(table.replace_schema_metadata(swapped), tmp_path / "test.parquet")
    with pytest.raises(DataError, match="names the classes of column 'label' otherwise"):
        make(tmp_path).shape()


def test_hidden_files_do_not_count_and_suffixes_may_be_capitals(tmp_path: Path) -> None:
    write(tmp_path / "TRAIN.PARQUET", [0, 1] * 10)
    write(tmp_path / "test.parquet", [0, 1], seed=1)
    (tmp_path / "._train.parquet").write_bytes(b"fork")
    write(tmp_path / ".ipynb_checkpoints" / "train-checkpoint.parquet", [0, 1])
    assert make(tmp_path).shape().classes == 2


def test_half_floats_are_labels_and_infinity_is_none(tmp_path: Path) -> None:
    for seed, split in enumerate(("train", "test")):
        with_labels(tmp_path / f"{split}.parquet", pa.array(np.array([1, 0] * 10, np.float16)), seed)
    assert make(tmp_path).shape().classes == 2
    with_labels(tmp_path / "train.parquet", pa.array([1.0, math.inf] * 10), 0)
    with pytest.raises(DataError, match=r"the label inf \(column 'Label'\) is not a whole number"):
        make(tmp_path).shape()
