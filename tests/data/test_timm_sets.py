from __future__ import annotations

import shutil
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from mmbench.data.base import DATASETS, InputShape
from mmbench.data.folders import listing
from mmbench.data.timm_sets import TimmImages
from mmbench.errors import ConfigError, DataError
from mmbench.testing.datasets import assert_disjoint_and_normalised

from .conftest import noise


def make(folder: Path | None, **options: Any) -> TimmImages:
    dataset = DATASETS.create(
        {"name": "timm", "root": folder and str(folder), "classes": 2, "image_size": 6, **options}
    )
    assert isinstance(dataset, TimmImages)
    return dataset


@pytest.mark.parametrize("source", ["folder", "torch/folder"])
def test_reads_an_image_folder(image_folder: Path, source: str) -> None:
    data = make(image_folder, source=source).load()
    assert [len(split) for split in (data.train, data.validation, data.test)] == [18, 2, 8]
    assert data.shape == make(image_folder).shape() == InputShape(3, 6, 2)
    assert data.test.labels.bincount().tolist() == [4, 4]
    assert_disjoint_and_normalised(data)


def test_reads_tar_files(image_folder: Path) -> None:
    expected = make(image_folder).load()
    for split in ("train", "test"):
        with tarfile.open(image_folder / f"{split}.tar", "w") as tar:
            tar.add(image_folder / split, arcname=".")
    data = make(image_folder, train_split="train.tar", test_split="test.tar").load()
    assert sorted(data.train.labels.tolist()) == sorted(expected.train.labels.tolist())
    assert data.test.images.shape == expected.test.images.shape


def test_every_image_keeps_its_label(image_folder: Path) -> None:
    for file in image_folder.rglob("*.png"):
        red, green = 200 if file.parent.name == "dog" else 10, 5 if "test" in file.parts else 0
        Image.new("RGB", (5, 5), (red, green, 0)).save(file)
    data = make(image_folder).load()
    for split in (data.train, data.validation, data.test):
        assert torch.equal(split.images[:, 0, 0, 0] > 0, split.labels == 1)


def test_images_are_made_grey_when_asked(image_folder: Path) -> None:
    assert make(image_folder, channels=1, image_size=20).load().shape == InputShape(1, 20, 2)


def test_fingerprint_follows_content_and_options_alone(
    image_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    first = make(image_folder).fingerprint()
    moved = tmp_path_factory.mktemp("elsewhere") / "data"
    shutil.copytree(image_folder, moved)
    assert make(moved).fingerprint() == first
    assert make(moved, download=True).fingerprint() == first
    assert make(moved, image_size=7).fingerprint() != first
    file = sorted(moved.rglob("cat/*.png"))[0]
    file.rename(moved / "train" / "dog" / "new.png")
    assert make(moved).fingerprint() != first, "an image in another folder has another label"


def test_fingerprint_of_a_named_source_does_not_depend_on_where_it_is_kept() -> None:
    one, other = (make(Path(folder), source="torch/cifar100").fingerprint() for folder in ("/one", "/other"))
    assert one == other
    assert one != make(Path("/one"), source="torch/cifar10").fingerprint()


class FakeStream(torch.utils.data.IterableDataset[Any]):
    """A source without random access, like timm's hfids, tfds and wds readers."""

    def __init__(self, labels: list[Any], announced: int | None = None) -> None:
        self.labels, self.announced = labels, announced
        self.images = noise(len(labels), seed=len(labels))

    def __len__(self) -> int:
        return len(self.labels) if self.announced is None else self.announced

    def __iter__(self) -> Iterator[Any]:
        return iter(zip(self.images, self.labels, strict=True))


def stream(monkeypatch: pytest.MonkeyPatch, train: FakeStream, test: FakeStream) -> TimmImages:
    monkeypatch.setattr("timm.data.create_dataset", lambda name, split, **_: {"train": train, "test": test}[split])
    return make(None, source="hfids/some/set")


def test_reads_a_stream_from_front_to_back(monkeypatch: pytest.MonkeyPatch) -> None:
    data = stream(monkeypatch, FakeStream([0, 1] * 10), FakeStream([0, 1, 1])).load()
    assert [len(split) for split in (data.train, data.validation, data.test)] == [18, 2, 3]
    assert data.test.labels.tolist().count(1) == 2
    assert_disjoint_and_normalised(data)


@pytest.mark.parametrize(
    ("test", "fragments"),
    [
        (FakeStream([0, 1, 2]), ["the test images of hfids/some/set", "image 2 ", "label 2 is not in 0..1", "classes"]),
        (FakeStream([0, -1, 1]), ["image 1 ", "label -1 is not in 0..1"]),
        (FakeStream([0, 1, "cat"]), ["image 2 ", "label 'cat' is not an integer"]),
        (FakeStream([0, 1], announced=3), ["image 2 ", "ended before this image", "announced 3"]),
    ],
    ids=["label too large", "no label", "text label", "ends early"],
)
def test_wrong_samples_are_named(monkeypatch: pytest.MonkeyPatch, test: FakeStream, fragments: list[str]) -> None:
    with pytest.raises(DataError) as error:
        stream(monkeypatch, FakeStream([0, 1] * 10), test).load()
    for fragment in fragments:
        assert fragment in str(error.value)


def test_a_broken_image_is_named_and_not_replaced(image_folder: Path) -> None:
    broken = sorted((image_folder / "test" / "cat").iterdir())[1]
    broken.write_bytes(broken.read_bytes()[:100])
    with pytest.raises(DataError, match=rf"image 1 \(counted from 0\) \({broken}\): the image cannot be"):
        make(image_folder).load()


Spoil = Callable[[Path], Any]
WRONG: dict[str, tuple[Spoil, dict[str, Any], list[str]]] = {
    "no such folder": (shutil.rmtree, {}, ["dataset.root = ", "is not a folder"]),
    "no test folder": (
        lambda d: (d / "test").rename(d / "val"),
        {},
        ["has no 'test', only train, val", "dataset.test_split"],
    ),
    "no images": (
        lambda d: [f.unlink() for f in d.rglob("train/*/*.png")],
        {},
        ["class folders without an image: cat, dog"],
    ),
    "a class is missing in test": (
        lambda d: shutil.rmtree(d / "test" / "cat"),
        {},
        ["train and test splits", "different classes", "only one of them has: cat"],
    ),
    "more classes than announced": (lambda d: None, {"classes": 3}, ["has 2 classes, dataset.classes = 3"]),
    "not downloaded": (
        lambda d: None,
        {"source": "torch/cifar100"},
        ["dataset.source = 'torch/cifar100' cannot be opened", "dataset.download=true"],
    ),
    "unknown torch name": (lambda d: None, {"source": "torch/cifar11"}, ["Unknown torchvision dataset cifar11"]),
    "too few images": (lambda d: None, {"train_size": 20}, ["dataset.train_size = 20", "hold 20"]),
}


@pytest.mark.parametrize(("spoil", "options", "fragments"), WRONG.values(), ids=WRONG.keys())
def test_wrong_sources_are_explained(
    image_folder: Path, spoil: Spoil, options: dict[str, Any], fragments: list[str]
) -> None:
    spoil(image_folder)
    with pytest.raises(DataError) as error:
        make(image_folder, **options).load()
    for fragment in fragments:
        assert fragment in str(error.value)


def test_a_source_whose_package_is_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"dataset.source = 'hfds/some/set' cannot be opened.*pip install datasets"):
        make(None, source="hfds/some/set").load()


def test_split_names_that_mean_the_same_images_are_an_error(
    image_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torchvision's sets know only training or not: any two other names are both the test images."""
    part = type("Part", (), {"train": False, "__len__": lambda self: 9})
    monkeypatch.setattr("timm.data.create_dataset", lambda *_, **__: part())
    with pytest.raises(DataError, match=r"'fit' and dataset.test_split = 'test' are the same images"):
        make(image_folder, source="torch/mnist", train_split="fit").load()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "cifar100"}, "dataset.source = 'cifar100' is unknown (allowed: folder, or a name after torch/"),
        ({"source": "imagenet/full"}, "dataset.source = 'imagenet/full' is unknown (allowed: folder"),
        ({"train_split": "test"}, "dataset.train_split and dataset.test_split are both 'test'; name two"),
        ({"channels": 2}, "dataset.channels = 2 is not allowed: must be one of 1, 3"),
        ({"image_size": None}, "dataset.image_size = None is not allowed: must be an integer >= 1"),
        ({"root": None}, "dataset.root is needed for dataset.source = 'folder': the folder of train and test"),
        ({"root": None, "source": "torch/mnist"}, "dataset.root is needed for dataset.source = 'torch/mnist'"),
    ],
    ids=["no prefix", "unknown prefix", "equal splits", "channels", "no size", "no folder", "no place for files"],
)
def test_wrong_options_are_found_while_planning(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        make(Path("data"), **options).shape()
    assert message in str(error.value)


def test_memory_is_checked_before_any_image_is_decoded(image_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in image_folder.rglob("*.png"):
        file.write_bytes(f"broken {file}".encode())
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 2**20})())
    with pytest.raises(DataError, match=r"28 images of 3x500x500 need 0.2 GiB of memory, 0.0 GiB are free"):
        make(image_folder, image_size=500).load()


# -- what lies in a folder is what is read, or an error ----------------------------------------------------------------


def fingerprint(folder: Path) -> Any:
    return make(folder, classes=None).fingerprint()


def test_linked_class_folders_are_part_of_the_fingerprint(image_folder: Path, tmp_path: Path) -> None:
    """Two folders of links to classes of a third: other classes are other data."""
    seen = []
    for number, (cat, dog) in enumerate([("cat", "dog"), ("dog", "cat")]):
        linked = tmp_path / f"linked{number}"
        for split in ("train", "test"):
            (linked / split).mkdir(parents=True)
            (linked / split / "a").symlink_to(image_folder / split / cat)
            (linked / split / "b").symlink_to(image_folder / split / dog)
        assert len(make(linked, classes=None).load().test) == 8
        seen.append(fingerprint(linked))
    assert seen[0] != seen[1]
    assert seen[0] == fingerprint(tmp_path / "linked0")


def test_a_change_of_one_image_in_place_changes_the_fingerprint(image_folder: Path) -> None:
    before = fingerprint(image_folder)
    for image in noise(1, seed=77):
        image.save(next((image_folder / "train" / "cat").iterdir()))
    assert fingerprint(image_folder) != before


def test_what_a_desktop_leaves_behind_does_not_count(image_folder: Path) -> None:
    before = fingerprint(image_folder)
    for name in (".DS_Store", "cat/.DS_Store", "cat/Thumbs.db", "desktop.ini", "cat/._1.png"):
        (image_folder / "train" / name).write_bytes(b"litter")
    hidden = image_folder / "train" / ".ipynb_checkpoints"
    hidden.mkdir()
    noise(1, seed=5)[0].save(hidden / "cat-checkpoint.png")
    assert fingerprint(image_folder) == before
    assert make(image_folder, classes=None).shape().classes == 2


def test_the_class_is_the_folder_at_the_top(image_folder: Path) -> None:
    nested = image_folder / "train" / "cat" / "old" / "2019"
    nested.mkdir(parents=True)
    noise(1, seed=6)[0].save(nested / "x.png")
    assert make(image_folder, classes=None).shape().classes == 2
    assert len(make(image_folder, classes=None).pools()[0]) == 21


@pytest.mark.parametrize("suffix", [".webp", ".bmp", ".gif", ".tif", ".JPG", ".ppm"])
def test_images_of_every_usual_kind_are_read(image_folder: Path, suffix: str) -> None:
    noise(1, seed=7)[0].save(image_folder / "train" / "cat" / f"other{suffix}")
    assert len(make(image_folder, classes=None).pools()[0]) == 21


def test_classes_are_in_natural_order(tmp_path: Path) -> None:
    for seed, split in enumerate(("train", "test")):
        for place, name in enumerate(("c10", "c2", "c1")):
            (tmp_path / split / name).mkdir(parents=True)
            noise(1, seed=10 * seed + place)[0].save(tmp_path / split / name / "x.png")
    train, _ = make(tmp_path, classes=None).pools()
    assert [(sample.where.split("/")[-2], sample.label) for sample in train.samples([0, 1, 2])] == [
        ("c1", 0),
        ("c2", 1),
        ("c10", 2),
    ]


def test_a_photo_that_was_taken_on_its_side_stands_upright(image_folder: Path) -> None:
    """EXIF orientation 6: shown after a quarter turn clockwise."""
    stored = Image.new("RGB", (8, 8))
    stored.paste((255, 255, 255), (0, 0, 4, 8))  # the left half is white: upright, the upper half
    exif = Image.Exif()
    exif[0x0112] = 6
    for split, shade in (("train", 0), ("test", 9)):
        for file in (image_folder / split / "cat").iterdir():
            stored.putpixel((7, 7), (shade, len(file.name), shade))
            stored.save(file, exif=exif)
    train, _ = make(image_folder, classes=None).pools()
    sample = next(train.samples([0]))
    pixels = make(image_folder, image_size=8)._pixels(sample, InputShape(3, 8, 2))[0]
    assert pixels[:4].min() > 200 and pixels[4:].max() < 60


ODD: dict[str, tuple[Spoil, str]] = {
    "another format": (lambda d: (d / "train/cat/x.avif").write_bytes(b"avif"), "x.avif is not an image that is read"),
    "notes": (lambda d: (d / "train/cat/notes.txt").write_text("mine"), "notes.txt is not an image that is read"),
    "an image beside the classes": (
        lambda d: noise(1)[0].save(d / "train" / "stray.png"),
        "stray.png lies in no class folder",
    ),
    "an empty class": (lambda d: (d / "train" / "cow").mkdir(), "class folders without an image: cow"),
    "one class": (lambda d: [shutil.rmtree(d / s / "cat") for s in ("train", "test")], "has one class folder, dog"),
    "a copy of the training images": (
        lambda d: (shutil.rmtree(d / "test"), shutil.copytree(d / "train", d / "test")),
        "100% of the images in 'test' are copies of images in 'train'",
    ),
    "a link to the folder above": (
        lambda d: (d / "train/cat/loop").symlink_to(d / "train"),
        "is a link to a folder that it lies in",
    ),
}


@pytest.mark.parametrize(("spoil", "message"), ODD.values(), ids=ODD.keys())
def test_what_would_be_left_out_is_an_error_while_planning(image_folder: Path, spoil: Spoil, message: str) -> None:
    spoil(image_folder)
    with pytest.raises(DataError) as error:
        make(image_folder, classes=None).shape()
    assert message in str(error.value)


def test_a_wrong_number_of_classes_is_found_while_planning(image_folder: Path) -> None:
    with pytest.raises(DataError, match=r"has 2 classes, dataset\.classes = 7"):
        make(image_folder, classes=7).shape()
    with pytest.raises(ConfigError, match=r"dataset\.classes is needed for dataset\.source = 'torch/mnist'"):
        make(image_folder, classes=None, source="torch/mnist").shape()


def test_a_file_name_need_not_be_utf_8(image_folder: Path) -> None:
    odd = image_folder / "train" / "cat" / b"\xff\xfe.png".decode(errors="surrogateescape")
    noise(1, seed=8)[0].save(odd)
    dataset = make(image_folder, classes=None)
    assert len(dataset.fingerprint()["root"]["train"]) == 32
    odd.write_bytes(b"broken")
    with pytest.raises(DataError) as error:
        dataset.load()
    assert "\\xff\\xfe.png" in str(error.value).encode().decode()


def test_the_order_of_classes_does_not_depend_on_chance(tmp_path: Path) -> None:
    names = ["1", "01", "Cat", "cat", "\N{SUPERSCRIPT TWO}"]
    for seed, split in enumerate(("train", "test")):
        for place, name in enumerate(names):
            (tmp_path / split / name).mkdir(parents=True)
            noise(1, seed=10 * seed + place)[0].save(tmp_path / split / name / "x.png")
    assert listing(tmp_path / "train").classes == ("01", "1", "Cat", "cat", "\N{SUPERSCRIPT TWO}")


@pytest.mark.parametrize("litter", ["@eaDir", "__MACOSX"])
def test_folders_that_other_machines_leave_behind_do_not_count(image_folder: Path, litter: str) -> None:
    before = fingerprint(image_folder)
    for home in (image_folder / "train", image_folder / "train" / "cat"):
        (home / litter).mkdir()
        noise(1, seed=9)[0].save(home / litter / "thumb.png")
    assert fingerprint(image_folder) == before


def test_an_image_that_moves_to_another_class_is_seen(image_folder: Path) -> None:
    make(image_folder, classes=None).load()
    moved = sorted((image_folder / "train" / "cat").iterdir())[0]
    moved.rename(image_folder / "train" / "dog" / "moved.png")
    train, _ = make(image_folder, classes=None).pools()
    assert [sample.label for sample in train.samples(range(20))] == [0] * 9 + [1] * 11


def test_links_are_hashed_beside_a_tar_file_too(image_folder: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    with tarfile.open(own / "test.tar", "w") as tar:
        tar.add(image_folder / "test", arcname=".")
    seen = []
    for order in (("cat", "dog"), ("dog", "cat")):
        shutil.rmtree(own / "train", ignore_errors=True)
        (own / "train").mkdir()
        for name, source in zip("ab", order, strict=True):
            (own / "train" / name).symlink_to(image_folder / "train" / source)
        seen.append(make(own, test_split="test.tar").fingerprint()["root"]["train"])
    assert seen[0] != seen[1]
