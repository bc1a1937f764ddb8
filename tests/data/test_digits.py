from __future__ import annotations

import pytest
import torch

from mmbench.data.base import DATASETS, InputShape
from mmbench.errors import ConfigError
from mmbench.testing.datasets import assert_disjoint_and_normalised


def test_splits_are_fixed_disjoint_normalised_and_stratified() -> None:
    digits = DATASETS.create({"name": "digits"})
    data = digits.load()
    assert [len(split) for split in (data.train, data.validation, data.test)] == [1000, 200, 597]
    assert data.shape == digits.shape() == InputShape(1, 8, 10)
    assert data.test.labels.bincount().min() >= 55
    assert_disjoint_and_normalised(data)


def test_train_size_takes_the_first_and_leaves_the_other_splits_alone() -> None:
    full, small = (DATASETS.create({"name": "digits", "train_size": size}).load() for size in (1000, 300))
    assert torch.equal(small.train.labels, full.train.labels[:300])
    assert torch.equal(small.validation.labels, full.validation.labels)
    assert torch.equal(small.test.labels, full.test.labels)


@pytest.mark.parametrize("size", [9, 1001])
def test_train_size_has_a_range(size: int) -> None:
    with pytest.raises(ConfigError, match=f"dataset.train_size = {size} is not allowed: must be an integer >= 10 and"):
        DATASETS.create({"name": "digits", "train_size": size})
