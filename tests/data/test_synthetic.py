from __future__ import annotations

from typing import Any

import pytest
import torch

from mmbench.data.base import DATASETS, Data, InputShape
from mmbench.errors import ConfigError, DataError
from mmbench.testing.datasets import assert_disjoint_and_normalised

TASKS = pytest.mark.parametrize("task", ["teacher", "clusters"])
NEAREST = {"teacher": 0.25, "clusters": 0.35}  # accuracy of the nearest training image, well above chance


def load(task: str, **options: Any) -> Data:
    return DATASETS.create({"name": "synthetic", "task": task, **options}).load()


@TASKS
def test_splits_are_disjoint_normalised_and_as_large_as_asked(task: str) -> None:
    data = load(task, train_size=300, validation_size=50, test_size=70, image_size=5)
    assert [len(split) for split in (data.train, data.validation, data.test)] == [300, 50, 70]
    assert data.shape == InputShape(1, 5, 8)
    assert data.train.images.dtype == torch.float32
    assert data.train.labels.dtype == torch.int64
    assert_disjoint_and_normalised(data)


@TASKS
def test_sample_draws_another_task(task: str) -> None:
    one, other = load(task), load(task, sample=1)
    assert not torch.equal(one.train.images, other.train.images)
    nearest = torch.cdist(one.test.images.flatten(1), other.train.images.flatten(1)).argmin(1)
    accuracy = (other.train.labels[nearest] == one.test.labels).float().mean()
    assert accuracy < 0.2, "another sample must be another task, not other images of the same"


@TASKS
def test_the_task_can_be_learnt_but_not_by_heart(task: str) -> None:
    data = load(task)
    nearest = torch.cdist(data.test.images.flatten(1), data.train.images.flatten(1)).argmin(1)
    accuracy = (data.train.labels[nearest] == data.test.labels).float().mean()
    assert NEAREST[task] < accuracy < 0.8


@TASKS
@pytest.mark.parametrize("sample", range(5))
@pytest.mark.parametrize(("classes", "image_size"), [(2, 2), (8, 4), (10, 8), (16, 8)])
def test_no_class_is_rare(task: str, classes: int, image_size: int, sample: int) -> None:
    data = load(task, classes=classes, image_size=image_size, sample=sample, test_size=4000)
    assert data.test.labels.bincount(minlength=classes).min() > 0.3 * 4000 / classes


@pytest.mark.parametrize("noise", [0.0, 0.2, 1.0])
@TASKS
def test_label_noise_replaces_exactly_that_fraction_of_the_training_labels(task: str, noise: float) -> None:
    clean, noisy = load(task), load(task, label_noise=noise)
    assert (clean.train.labels != noisy.train.labels).sum() == round(noise * 1500)
    assert noisy.train.labels.min() >= 0
    assert noisy.train.labels.max() < 8
    assert torch.equal(clean.train.images, noisy.train.images)
    assert torch.equal(clean.validation.labels, noisy.validation.labels)
    assert torch.equal(clean.test.labels, noisy.test.labels)


@TASKS
def test_sizes_leave_the_other_splits_labels_alone(task: str) -> None:
    one, other = load(task), load(task, validation_size=10, test_size=20)
    assert torch.equal(one.train.images, other.train.images)
    assert torch.equal(one.train.labels, other.train.labels)


def test_labels_are_a_function_of_the_image() -> None:
    """Least squares on 500 random ReLU features finds most of the teacher's labels, which noise would not allow."""
    data = load("teacher", classes=2, train_size=5000)
    weights = torch.randn(17, 500, generator=torch.Generator().manual_seed(0))

    def features(images: torch.Tensor) -> torch.Tensor:
        return torch.relu(images.flatten(1) @ weights[:16] + weights[16])

    solution = torch.linalg.lstsq(features(data.train.images), data.train.labels[:, None] - 0.5).solution
    predicted = (features(data.test.images) @ solution)[:, 0] > 0
    assert (predicted == (data.test.labels == 1)).float().mean() > 0.82


def test_an_empty_class_is_an_error() -> None:
    with pytest.raises(DataError, match=r"teacher task, class .* has no training image; raise dataset.train_s"):
        load("teacher", classes=64, train_size=70)


def test_memory_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 2**30})())
    with pytest.raises(DataError, match=r"100,003,000 images of 1x4x4 need 11.9 GiB of memory, 1.0 GiB are free"):
        load("teacher", train_size=100_000_000)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"task": "rings"}, "dataset.task = 'rings' is not allowed: must be one of teacher, clusters"),
        ({"label_noise": 1.5}, "dataset.label_noise = 1.5 is not allowed: must be a number >= 0 and <= 1"),
        ({"classes": 1}, "dataset.classes = 1 is not allowed: must be an integer >= 2 and <= 64"),
    ],
    ids=["task", "label_noise", "classes"],
)
def test_wrong_options_name_their_range(option: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        DATASETS.create({"name": "synthetic", **option})
    assert str(error.value) == message
