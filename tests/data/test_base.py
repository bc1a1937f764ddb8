from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from mmbench.data.base import DATASETS, InputShape, Split, Stamp, content_hash, normalised, require_memory
from mmbench.errors import DataError

from .conftest import noise

CONF = Path(__file__).parents[2] / "conf" / "dataset"


def test_normalised_uses_the_training_statistics_of_each_channel() -> None:
    def split(count: int) -> Split:
        images = torch.arange(count * 8, dtype=torch.float64).reshape(count, 2, 2, 2)
        return Split(images, torch.zeros(count, dtype=torch.int64))

    raw, data = split(5).images, normalised(split(5), split(2), split(3), classes=4)
    mean, std = raw.mean((0, 2, 3), keepdim=True), raw.std((0, 2, 3), keepdim=True)
    for part, count in ((data.train, 5), (data.validation, 2), (data.test, 3)):
        assert torch.allclose(part.images, (split(count).images - mean) / std)
    assert data.shape == InputShape(2, 2, 4)


def test_a_constant_channel_stays_finite() -> None:
    def split() -> Split:
        return Split(torch.ones(3, 1, 2, 2), torch.zeros(3, dtype=torch.int64))

    assert torch.equal(normalised(split(), split(), split(), classes=2).train.images, torch.zeros(3, 1, 2, 2))


def test_memory_that_does_not_suffice_is_an_error_with_both_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 3 * 2**30})())
    require_memory(2**17, InputShape(3, 32, 10))  # exactly as much as there is
    with pytest.raises(DataError) as error:
        require_memory(2**18, InputShape(3, 32, 10))
    assert str(error.value) == (
        "dataset: 262,144 images of 3x32x32 need 6.0 GiB of memory, 3.0 GiB are free; "
        "lower dataset.train_size or dataset.image_size"
    )


def test_content_hash_follows_bytes_names_and_order(tmp_path: Path) -> None:
    one, other, copy = (tmp_path / name for name in ("one", "other", "copy"))
    one.write_text("1")
    other.write_text("2")
    copy.write_text("1")
    files = [("train", Stamp.of(one)), ("test", Stamp.of(other))]
    assert content_hash(files) == content_hash([("train", Stamp.of(copy)), ("test", Stamp.of(other))])
    hashes = {
        content_hash(chosen)
        for chosen in (files, files[::-1], files[:1], [("test", files[0][1]), ("train", files[1][1])])
    }
    assert len(hashes) == 4


def test_an_unchanged_file_is_read_once(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("1")
    stamp = Stamp.of(file)
    first = content_hash([("train", stamp)])
    file.unlink()
    assert content_hash([("train", stamp)]) == first
    with pytest.raises(DataError, match="file cannot be read: No such file"):
        Stamp.of(file)


@pytest.mark.parametrize("file", sorted(CONF.glob("*.yaml")), ids=lambda file: file.stem)
def test_each_configuration_names_every_option(file: Path) -> None:
    text = file.read_text()
    options = yaml.safe_load(text)
    dataset = DATASETS.create(options)
    assert {"name": dataset.name, **dataset.model_dump()} == options
    first, _, *rest = text.splitlines()
    assert first.startswith("# ")
    assert all(" # " in line for line in rest), "each option has a comment"


def test_every_dataset_has_a_configuration() -> None:
    assert {yaml.safe_load(file.read_text())["name"] for file in CONF.glob("*.yaml")} == set(DATASETS.names())


def test_planning_imports_no_library_that_reads_data_or_builds_networks(folder: Path) -> None:
    """The package, shape() and fingerprint() do without timm, torchvision, scikit-learn and pandas."""
    for place, (split, name) in enumerate(itertools.product(("train", "test"), ("cat", "dog"))):
        (folder / split / name).mkdir(parents=True)
        noise(1, seed=place)[0].save(folder / split / name / "1.png")
    places = {"parquet": {"path": str(folder)}, "timm": {"root": str(folder)}}
    options = [{"name": name, **places.get(name, {})} for name in DATASETS.names()]
    code = (
        "import sys; from mmbench.data.base import DATASETS; sets = [DATASETS.create(o) for o in "
        f"{options!r}]; [(dataset.shape(), dataset.fingerprint()) for dataset in sets]; "
        "print(*{'timm', 'torchvision', 'sklearn', 'pandas'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
