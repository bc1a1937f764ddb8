"""A folder with one sub-folder of images per class.

The classes are its visible sub-folders, in natural order (class2 before class10); the images of a class are all that
lie below its folder. Links are followed. Hidden files and folders, and those that a desktop leaves behind,
do not count. Everything else that would be left out is an error, since nobody would notice.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from mmbench.data.base import Stamp, content_hash, digests
from mmbench.errors import DataError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
LITTER = {"thumbs.db", "desktop.ini", "icon\r", "@eadir", "__macosx"}
MANY = 20
COPIES = 0.5
"""The largest share of test images that may be copies of training images: some data sets hold a few by accident."""


class Listing(NamedTuple):
    """The images of a folder, class by class."""

    classes: tuple[str, ...]
    files: tuple[tuple[str, int, Stamp], ...]
    """Path inside the folder, class number and stamp of each image, in order."""

    def fingerprint(self) -> str:
        """A hash of the images' bytes and of their paths, which name their classes."""
        return content_hash((name, stamp) for name, _, stamp in self.files)


def listing(folder: Path) -> Listing:
    """The images of a folder; cached while its files have the same names, sizes and times.

    Args:
        folder: holds one sub-folder per class.

    Returns:
        Classes and images.

    Raises:
        DataError: a class has no image, or a file is not an image that can be read.
    """
    return _listing(folder, tuple(map(Stamp.of, _walk(folder))), tuple(sorted(_folders(folder))))


def require_unlike(train: Listing, test: Listing, names: tuple[str, str]) -> None:
    """Refuse a test folder more than half of whose images are in the training folder too.

    Args:
        train: the training images.
        test: the test images.
        names: of both splits.

    Raises:
        DataError: they are.
    """
    trained = set(digests(stamp for *_, stamp in train.files))
    tested = digests(stamp for *_, stamp in test.files)
    share = sum(digest in trained for digest in tested) / len(tested)
    if share > COPIES:
        raise DataError(
            f"{share:.0%} of the images in {names[1]!r} are copies of images in {names[0]!r}, so the test would be on "
            "training images; give two folders without common images"
        )


def shown(path: Path | str) -> str:
    """A path as text that can be printed, whatever bytes its name has."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


@functools.cache
def suffixes() -> frozenset[str]:
    """The suffixes of the image files that are read, lower case."""
    Image.init()
    return frozenset(suffix for suffix, kind in Image.registered_extensions().items() if kind in FORMATS)


def files_below(folder: Path) -> list[Path]:
    """The visible files below a folder, links followed, in natural order; `DataError` for a link to a folder above."""
    return list(_walk(folder))


def _walk(folder: Path) -> Iterator[Path]:
    """The visible files below a folder, links followed, in natural order; a link to a folder above is an error."""
    above = {os.path.realpath(folder)}
    yield from _below(folder, above)


def _below(folder: Path, above: set[str]) -> Iterator[Path]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: natural(entry.name))
    except OSError as error:
        raise DataError(f"{shown(folder)} cannot be read: {error.strerror}") from error
    for entry in entries:
        if _is_litter(entry.name):
            continue
        if not entry.is_dir():
            yield Path(entry.path)
            continue
        real = os.path.realpath(entry.path)
        if real in above:
            raise DataError(f"{shown(entry.path)} is a link to a folder that it lies in; remove it")
        yield from _below(Path(entry.path), above | {real})


def _is_litter(name: str) -> bool:
    return name.startswith(".") or name.lower() in LITTER


def natural(name: str) -> list[tuple[int, int, str]]:
    """A key that sorts numbers inside names by their value."""
    parts = [(0, int(part), "") if part.isdecimal() else (1, 0, part.lower()) for part in re.split(r"(\d+)", name)]
    return [*parts, (2, 0, name)]  # 01 and 1, Cat and cat have one order, too


@functools.lru_cache(maxsize=64)
def _listing(folder: Path, stamps: tuple[Stamp, ...], folders: tuple[str, ...]) -> Listing:
    files = [stamp.path for stamp in stamps]
    homes = [file.relative_to(folder).parts for file in files]
    classes = sorted({parts[0] for parts in homes if len(parts) > 1} | set(folders), key=natural)
    places = {name: place for place, name in enumerate(classes)}
    found = []
    for stamp, parts in zip(stamps, homes, strict=True):
        file = stamp.path
        is_image = file.suffix.lower() in suffixes()
        if len(parts) == 1:
            if is_image:
                raise DataError(f"{shown(file)} lies in no class folder; move it into the folder of its class")
            continue
        if not is_image:
            known = ", ".join(sorted(suffixes()))
            raise DataError(
                f"{shown(file)} is not an image that is read (suffixes {known}); convert it, or move it elsewhere"
            )
        found.append((os.fsdecode(file.relative_to(folder)), places[parts[0]], stamp))
    _require_classes(folder, classes, {place for _, place, _ in found})
    return Listing(tuple(map(shown, classes)), tuple(found))


def _folders(folder: Path) -> list[str]:
    return [entry.name for entry in os.scandir(folder) if entry.is_dir() and not _is_litter(entry.name)]


def _require_classes(folder: Path, classes: list[str], filled: set[int]) -> None:
    if empty := [shown(name) for place, name in enumerate(classes) if place not in filled]:
        some = ", ".join(empty[:MANY])
        raise DataError(f"{shown(folder)} has class folders without an image: {some}; fill or remove them")
