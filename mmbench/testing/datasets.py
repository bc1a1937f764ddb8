"""Contract of a data source.

In a test file of your package:

    from mmbench.testing.datasets import DatasetContract

    class TestMine(DatasetContract):
        dataset = "mine"

        def options(self, folder, seed):
            write_my_files(folder, seed)
            return {"path": str(folder)}
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from mmbench.data.base import DATASETS, Data, Dataset

SPLITS = ("train", "validation", "test")


def assert_disjoint_and_normalised(data: Data) -> None:
    """No image is in two splits, and the training images have mean 0 and standard deviation 1 in each channel."""
    images = torch.cat([getattr(data, name).images for name in SPLITS])
    assert len(torch.unique(images, dim=0)) == len(images)
    assert torch.allclose(data.train.images.mean((0, 2, 3)), torch.zeros(1), atol=1e-5)
    assert torch.allclose(data.train.images.std((0, 2, 3)), torch.ones(1), atol=1e-4)
    # the test images are normalised by the training images' statistics, not by their own
    assert data.test.images.mean((0, 2, 3)).abs().max() > 1e-4


def assert_same(first: Data, second: Data) -> None:
    """Check that two data sets are equal, bit for bit."""
    for name in SPLITS:
        assert torch.equal(getattr(first, name).images, getattr(second, name).images)
        assert torch.equal(getattr(first, name).labels, getattr(second, name).labels)


def without_global_draws(function: Callable[[], Any]) -> Any:
    """Call a function and check that it does not change the global generators of torch, numpy and Python.

    Returns:
        What the function returns.
    """

    def draws() -> tuple[float, ...]:
        return torch.rand(1).item(), np.random.rand(), random.random()

    def seed() -> None:
        torch.manual_seed(12345)
        np.random.seed(12345)
        random.seed(12345)

    seed()
    result = function()
    after = draws()
    seed()
    assert after == draws()
    return result


class DatasetContract:
    """Tests of a data source. A subclass sets `dataset`, and overrides `options` if it reads files."""

    dataset: ClassVar[str]
    variants: ClassVar[tuple[dict[str, Any], ...]] = ({},)
    """Options to run every test with."""
    changes: ClassVar[tuple[dict[str, Any], ...]] = ()
    """Options that each change the images or labels."""

    def options(self, folder: Path, seed: int) -> dict[str, Any]:
        """Options of a small data set. A source of files writes them into `folder`, different ones for each seed."""
        return {}

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run every test on every variant."""
        if "variant" in metafunc.fixturenames:
            metafunc.parametrize("variant", self.variants, ids=str)

    @pytest.fixture
    def source(self, variant: dict[str, Any], tmp_path: Path) -> Dataset:
        """The data source, with its files written."""
        return self.made(tmp_path / "first", 0, variant)

    def made(self, folder: Path, seed: int, variant: dict[str, Any]) -> Dataset:
        """A data source whose files are in a folder.

        Args:
            folder: is created.
            seed: of the files.
            variant: further options.

        Returns:
            The source, not loaded.
        """
        folder.mkdir()
        return DATASETS.create({"name": self.dataset, **self.options(folder, seed), **variant})

    def test_the_shape_is_known_without_loading(self, source: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
        """And it is that of the tensors."""

        def load(*_: Any) -> None:
            raise AssertionError("the data were loaded")

        with monkeypatch.context() as patch:
            patch.setattr(type(source), "load", load)
            shape = source.shape()
            assert source.fingerprint()
            assert source.title
        assert source.load().shape == shape

    def test_splits_are_disjoint_and_normalised(self, source: Dataset) -> None:
        """float32 images and integer labels in 0..classes-1."""
        data = source.load()
        assert_disjoint_and_normalised(data)
        for name in SPLITS:
            split = getattr(data, name)
            assert len(split) == len(split.images) > 0
            assert split.images.dtype == torch.float32
            assert split.images.isfinite().all()
            assert split.labels.dtype == torch.int64
            assert 0 <= split.labels.min() <= split.labels.max() < data.classes

    def test_loading_is_deterministic_and_leaves_the_global_generators_alone(self, source: Dataset) -> None:
        """And the result does not depend on their state."""
        first = without_global_draws(source.load)
        torch.manual_seed(1)
        assert_same(first, source.load())

    def test_the_fingerprint_follows_the_content(
        self, source: Dataset, variant: dict[str, Any], tmp_path: Path
    ) -> None:
        """Moved files keep it, different files or options change it. It is plain JSON data."""
        fingerprint = source.fingerprint()
        assert json.loads(json.dumps(fingerprint)) == fingerprint
        assert self.made(tmp_path / "moved", 0, variant).fingerprint() == fingerprint
        reads_files = type(self).options is not DatasetContract.options
        assert (self.made(tmp_path / "other", 1, variant).fingerprint() != fingerprint) == reads_files
        for number, change in enumerate(self.changes):
            changed = self.made(tmp_path / f"changed {number}", 0, {**variant, **change})
            assert changed.fingerprint() != fingerprint, change
