"""Small parquet files and image folders, written into the test's own folder."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def noise(count: int, size: tuple[int, int] = (6, 6), mode: str = "RGB", seed: int = 0) -> list[Image.Image]:
    """Images of random pixels, no two alike."""
    generator = np.random.default_rng(seed)
    shape = (count, size[1], size[0]) + ((3,) if mode == "RGB" else ())
    return [Image.fromarray(pixels) for pixels in generator.integers(0, 256, shape, np.uint8)]


def encode(image: Image.Image, kind: str = "PNG") -> bytes:
    """The image as the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def write(
    file: Path,
    labels: Sequence[int | None],
    *,
    images: Sequence[Image.Image | bytes | None] | None = None,
    names: int | None = None,
    columns: tuple[str, str] = ("img", "label"),
    extra: dict[str, Any] | None = None,
    flat: bool = False,
    group: int = 7,
    **kind: Any,
) -> Path:
    """A parquet file of these labels and of random images, in row groups of 7; `names` declares so many classes."""
    chosen = noise(len(labels), **kind) if images is None else images
    stored = [encode(image) if isinstance(image, Image.Image) else image for image in chosen]
    column = pa.array(stored, pa.binary()) if flat else pa.array([{"bytes": b} for b in stored], IMAGE)
    table = pa.table({columns[0]: column, columns[1]: pa.array(labels, pa.int64()), **(extra or {})})
    if names is not None:
        label = {"_type": "ClassLabel", "names": [f"class {i}" for i in range(names)]}
        features = {"info": {"features": {columns[1]: label}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file, row_group_size=group)
    return file


def write_parquet(folder: Path, seed: int = 0) -> Path:
    """A data set of 40 training and 12 test images of 4 classes, sorted by class."""
    write(folder / "train-00000-of-00002.parquet", [0] * 10 + [1] * 10, names=4, seed=3 * seed + 1)
    write(folder / "train-00001-of-00002.parquet", [2] * 10 + [3] * 10, names=4, seed=3 * seed + 2)
    write(folder / "test-00000-of-00001.parquet", [0, 1, 2, 3] * 3, names=4, seed=3 * seed + 3)
    return folder


def write_image_folder(folder: Path, seed: int = 0) -> Path:
    """train/ and test/ with the classes cat, dog and 10 and 4 images of 9x7 RGB pixels in each."""
    for split, count, own in (("train", 10, 1), ("test", 4, 2)):
        images = noise(2 * count, (9, 7), seed=2 * seed + own)
        for number, image in enumerate(images):
            file = folder / split / ("cat", "dog")[number % 2] / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            image.save(file)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_parquet(tmp_path)


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    return write_image_folder(tmp_path)
