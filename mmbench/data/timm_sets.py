"""Any data set that `timm.data.create_dataset` understands (Wightman, 2019), read into memory at a small size.

| source | root | the two splits |
|---|---|---|
| `folder` | a folder | its sub-folders (or .tar files), each with one folder per class; see folders.py |
| `torch/cifar100`, ... | torchvision's data folder | torchvision's training and test part |
| `hfds/NAME`, `hfids/NAME`, `tfds/NAME`, `wds/NAME` | cache or data folder | by name; each needs its own package |

timm replaces an unreadable image by the next one; here it is an error. Sources without random access (hfids, tfds, wds)
are read once per split, in order.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from mmbench.data.base import DATASETS, InputShape, Stamp, content_hash
from mmbench.data.folders import Listing, files_below, listing, require_unlike, shown
from mmbench.data.images import Encoded, ImageDataset, Pool, Sample
from mmbench.errors import ConfigError, DataError

FOLDERS = ("folder", "torch/folder", "torch/image_folder")  # .tar files in them are read by timm
PREFIXES = ("torch", "hfds", "hfids", "tfds", "wds")
NEEDS_ROOT = ("folder", "torch", "wds")


@dataclass(frozen=True)
class _TimmPool:
    """One split of a timm data set, its labels checked as they are read."""

    where: str
    dataset: Any
    classes: int

    def __len__(self) -> int:
        return len(self.dataset)

    def samples(self, rows: Sequence[int]) -> Iterator[Sample]:
        read = self._read_on() if hasattr(self.dataset, "__iter__") else self._read_row
        for row in rows:
            where = f"{self.where}, image {row} (counted from 0)"
            try:
                image, label, file = read(row)
            except Exception as error:  # every reader raises different types
                raise DataError(f"{where} cannot be read: {error or type(error).__name__}") from error
            yield Sample(f"{where}{file}", image, self._checked(where, label))

    def _read_row(self, row: int) -> tuple[Encoded, Any, str]:
        """Image, label and file name of a source with random access."""
        reader = getattr(self.dataset, "reader", None)
        if reader is None:  # torchvision
            return *self.dataset[row], ""
        file, label, *_ = reader[row]  # not through the data set, which would skip a broken image
        with file:
            return file.read(), label, f" ({file.name})" if getattr(file, "name", None) else ""

    def _read_on(self) -> Any:
        """A function that reads a source without random access up to a row."""
        numbered = enumerate(self.dataset)

        def read(row: int) -> tuple[Encoded, Any, str]:
            for number, (image, label) in numbered:
                if number == row:
                    return image, label, ""
            raise EOFError(f"the source ended before this image, though it announced {len(self)} images")

        return read

    def _checked(self, where: str, label: Any) -> int:
        try:
            number = operator.index(label)
        except TypeError:
            raise DataError(f"{where}: the label {label!r} is not an integer") from None
        if not 0 <= number < self.classes:
            raise DataError(f"{where}: the label {number} is not in 0..{self.classes - 1}; correct dataset.classes")
        return number


@dataclass(frozen=True)
class _FolderPool:
    """The images of one folder."""

    where: str
    found: Listing

    def __len__(self) -> int:
        return len(self.found.files)

    def samples(self, rows: Sequence[int]) -> Iterator[Sample]:
        for row in rows:
            _, label, stamp = self.found.files[row]
            where = f"{self.where}, image {row} (counted from 0) ({shown(stamp.path)})"
            try:
                image = stamp.path.read_bytes()
            except OSError as error:
                raise DataError(f"{where} cannot be read: {error.strerror}") from error
            yield Sample(where, image, label)


@DATASETS.register("timm")
class TimmImages(ImageDataset):
    """A data set by its timm name."""

    source: str = "folder"
    """timm's name: folder, torch/cifar100, hfds/NAME, ..."""
    root: str | None = None
    """The folder of the images, or of the source's files; relative to the current directory."""
    train_split: str = "train"
    """timm's name of the training split; for a folder, the sub-folder or .tar file."""
    test_split: str = "test"
    """The same for the test split."""
    download: bool = False
    """Whether the source may download missing files; hfds always may, unless HF_HUB_OFFLINE is set."""
    image_size: int = Field(32, ge=1)
    """Height and width in pixels: images are cropped to the central square and resized."""
    channels: Literal[1, 3] = 3
    """1 (grey) or 3 (RGB); images are converted."""
    classes: int | None = Field(None, ge=2)
    """Number of classes; labels are 0..classes-1. Null for the number of class folders."""

    @field_validator("source")
    @classmethod
    def _source_is_known(cls, source: str) -> str:
        if source not in FOLDERS and ("/" not in source or source.split("/")[0] not in PREFIXES):
            raise ValueError(
                f"dataset.source = {source!r} is unknown (allowed: folder, or a name after {'/, '.join(PREFIXES)}/, "
                "such as torch/cifar100)"
            )
        return source

    @model_validator(mode="after")
    def _splits_differ(self) -> Self:
        if self.train_split == self.test_split:
            raise ValueError(
                f"dataset.train_split and dataset.test_split are both {self.train_split!r}; name two different splits"
            )
        return self

    @property
    def title(self) -> str:
        """The source; for image folders, the name of the folder."""
        return self.source if self.source != "folder" or not self.root else Path(self.root).absolute().name

    def shape(self) -> InputShape:
        """From the options and the class folders; the images are checked on loading.

        Returns:
            The shape, without opening the source.

        Raises:
            ConfigError: `root` or `classes` is missing.
            DataError: the folder of a split is missing, or its classes are not those that were announced.
        """
        return InputShape(self.channels, self.image_size, self._count())

    def pools(self) -> tuple[Pool, Pool]:
        """Both splits: folders, or what timm opens.

        Returns:
            The training and the test images.

        Raises:
            ConfigError: `root` is missing.
            DataError: timm cannot open a split, both splits are the same images, or their classes differ.
        """
        classes = self._count()
        if folders := self._listings():
            return tuple(  # type: ignore[return-value]
                _FolderPool(f"the {split} images of {self.root}", found) for split, found in folders.items()
            )
        train, test = self._opened(self.train_split), self._opened(self.test_split)
        for about in ("train", "split", "version"):
            part = _attribute(train, about)
            if part is not None and part == _attribute(test, about):
                raise DataError(
                    f"dataset.train_split = {self.train_split!r} and dataset.test_split = {self.test_split!r} are the "
                    f"same images for dataset.source = {self.source!r} ({about} = {part!r}); use its own split names"
                )
        self._check_classes(train, test, classes)
        return self._pool(train, self.train_split, classes), self._pool(test, self.test_split, classes)

    def fingerprint(self) -> dict[str, Any]:
        """The options, with a hash of the files in place of `root` for image folders and `wds` files.

        All other sources are identified by their name; their `root` is only a cache.

        Returns:
            The options without `download`, with one hash per split as `root`.
        """
        options = {key: value for key, value in self.describe().items() if key != "download"}
        folders = {split: found.fingerprint() for split, found in self._listings().items()}
        return {
            **options,
            "root": folders or {split: _hash_of(place, _dates(place)) for split, place in self._places().items()},
        }

    def _listings(self) -> dict[str, Listing]:
        """The images of both splits if both are folders; else nothing."""
        places = self._places() if self.source in FOLDERS else {}
        return (
            {split: listing(place) for split, place in places.items()} if all(map(Path.is_dir, places.values())) else {}
        )

    def _count(self) -> int:
        """The number of classes; checks the class folders of both splits."""
        self._places()
        folders = list(self._listings().values())
        if not folders:
            if self.classes is None:
                raise ConfigError(
                    f"dataset.classes is needed for dataset.source = {self.source!r}: the number of its classes"
                )
            return self.classes
        train, test = folders
        if train.classes != test.classes:
            self._refuse_unlike(set(train.classes) ^ set(test.classes))
        if len(train.classes) < 2:
            what = f"one class folder, {train.classes[0]}" if train.classes else "no class folder"
            raise DataError(
                f"{self._place(self.train_split)} has {what}; a data set needs a folder of images for each class"
            )
        if self.classes not in (None, len(train.classes)):
            raise DataError(
                f"{self.root} has {len(train.classes)} classes, dataset.classes = {self.classes}; correct it, or leave "
                "it out"
            )
        require_unlike(train, test, (self.train_split, self.test_split))
        return len(train.classes)

    def _refuse_unlike(self, unshared: Any) -> None:
        names = ", ".join(sorted(map(str, unshared))[:10])
        raise DataError(
            f"the {self.train_split} and {self.test_split} splits of {self.root or self.source} have different "
            f"classes, so their labels would not agree; only one of them has: {names}"
        )

    def _places(self) -> dict[str, Path]:
        """The files that make up the content: of both splits, or all of a `wds` folder; none for other sources."""
        if self.source in FOLDERS:
            return {split: self._place(split) for split in (self.train_split, self.test_split)}
        root = self._root()
        return {"wds": Path(root)} if self.source.startswith("wds/") and Path(root).is_dir() else {}

    def _root(self) -> str:
        if self.root is None and self.source.split("/")[0] in NEEDS_ROOT:
            holds = f"{self.train_split} and {self.test_split}" if self.source in FOLDERS else "the data set's files"
            raise ConfigError(f"dataset.root is needed for dataset.source = {self.source!r}: the folder of {holds}")
        return str(Path(self.root).expanduser()) if self.root else ""

    def _place(self, split: str) -> Path:
        """The folder or .tar file of a split. Without one, timm would use the whole root as that split."""
        root = Path(self._root()).absolute()
        if not root.is_dir():
            raise DataError(f"dataset.root = {self.root!r} is not a folder (relative paths start from {Path.cwd()})")
        if not (root / split).exists():
            names = ", ".join(sorted(path.name for path in root.iterdir())[:20]) or "nothing"
            raise DataError(
                f"dataset.root = {self.root!r} has no {split!r}, only {names}; "
                "set dataset.train_split and dataset.test_split to the names of two of its sub-folders"
            )
        return root / split

    def _opened(self, split: str) -> Any:
        """The data set of one split."""
        from timm.data import create_dataset

        folder = self.source in FOLDERS
        root = str(self._place(split)) if folder else self._root() or None
        mode = "L" if self.channels == 1 else "RGB"
        try:
            return create_dataset(
                "" if folder else self.source,
                root=root,
                split=split,
                search_split=False,
                download=self.download,
                input_img_mode=mode,
            )
        except Exception as error:  # timm and the packages behind it raise many types, AssertionError included
            hint = "check these three options, or set dataset.download=true to fetch missing files"
            if isinstance(error, ModuleNotFoundError):
                hint = f"install it: pip install {error.name}"
            raise DataError(
                f"dataset.source = {self.source!r} cannot be opened (split {split!r}, dataset.root = {self.root!r}): "
                f"{error or type(error).__name__}; {hint}"
            ) from error

    def _check_classes(self, train: Any, test: Any, classes: int) -> None:
        """If the source numbers its classes by name, check that both splits agree and that their number is right."""
        names, test_names = _class_numbers(train), _class_numbers(test)
        if names and test_names and names != test_names:
            self._refuse_unlike(names.keys() ^ test_names.keys())
        if names and len(names) != classes:
            raise DataError(
                f"{self.root or self.source} has {len(names)} classes, dataset.classes = {classes}; correct it"
            )

    def _pool(self, dataset: Any, split: str, classes: int) -> _TimmPool:
        return _TimmPool(f"the {split} images of {self.root or self.source}", dataset, classes)


def _attribute(dataset: Any, name: str) -> Any:
    """An attribute of timm's reader, or of a torchvision data set, which has no reader."""
    return getattr(getattr(dataset, "reader", dataset), name, None)


def _class_numbers(dataset: Any) -> dict[str, int]:
    """Class name -> label; empty if the source does not name its classes."""
    return _attribute(dataset, "class_to_idx") or _attribute(dataset, "class_name_to_idx") or {}


def _dates(place: Path) -> tuple[int, ...]:
    """Modification times of all files, links followed."""
    return tuple(Stamp.of(file).mtime_ns for file in (files_below(place) if place.is_dir() else [place]))


@functools.lru_cache(maxsize=64)
def _hash_of(place: Path, dates: tuple[int, ...]) -> str:
    """A hash of the files of a split, each with its path inside the split, since the folder of an image is its class.

    Cached while `dates` are the same: planning needs it once per run, and even listing a large folder is slow.

    Returns:
        32 hexadecimal digits.
    """
    files = files_below(place) if place.is_dir() else [place]
    return content_hash((file.relative_to(place).as_posix(), Stamp.of(file)) for file in files)
