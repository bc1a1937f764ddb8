r"""Two synthetic tasks that separate signal from noise on tiny networks.

The "images" are Gaussian vectors of d = image_size^2 entries. With w = 32, e ~ N(0, I) and weights and centres drawn
once from `sample`:

    teacher    x = e;             label = argmax_c (f_c(x) - m_c) / s_c,   f(x) = V relu(W2 relu(W1 x)),
               W1 ~ N(0, 2/d), W2 ~ N(0, 2/w), V ~ N(0, 1); m_c and s_c are the mean and the standard deviation of f_c
               over 4,096 further inputs: without them, a few large logits would win everywhere.
    clusters   x = centre + e;    label = c for 4 equally likely centres ~ N(0, 0.7^2 I) of each class c.

With 16 entries and 1,500 training images, an MLP with two hidden layers of 8 units predicts about half of the labels,
and one with layers of 24 units clearly more, so there is room for a gain. Source: the feasibility study of this
project; the teacher-student setting is that of Gardner and Derrida (1989).
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from mmbench.data.base import DATASETS, Data, Dataset, InputShape, Progress, Split, normalised, require_memory, silent
from mmbench.errors import DataError

TEACHER_WIDTH, TEACHER_REFERENCE = 32, 4096
CENTRES_PER_CLASS, CENTRE_SPREAD = 4, 0.7


@DATASETS.register("synthetic")
class Synthetic(Dataset):
    """Gaussian inputs labelled by a random network, or by the cluster that they belong to."""

    task: Literal["teacher", "clusters"] = "teacher"
    """How the inputs are labelled: by a random network, or by their cluster."""
    image_size: int = Field(4, ge=2, le=64)
    """Inputs are 1 x image_size x image_size."""
    classes: int = Field(8, ge=2, le=64)
    """Number of classes."""
    train_size: int = Field(1500, ge=10)
    """Training images."""
    validation_size: int = Field(1000, ge=10)
    """Validation images."""
    test_size: int = Field(2000, ge=10)
    """Test images; many, since gains are small."""
    label_noise: float = Field(0.0, ge=0, le=1)
    """Fraction of the training labels that is replaced by another class."""
    sample: int = Field(0, ge=0)
    """Seed of the teacher or the centres, and of the images."""

    @property
    def title(self) -> str:
        """The task."""
        return self.task

    def shape(self) -> InputShape:
        """One channel; size and classes from the options."""
        return InputShape(1, self.image_size, self.classes)

    def load(self, progress: Progress[Any] = silent) -> Data:
        """Draw the three splits.

        The task and all images depend only on `sample` and the shape. The size of one split does not change another.

        Args:
            progress: not used, since drawing is fast.

        Returns:
            The three splits, float32.

        Raises:
            DataError: the images exceed the memory, or a class has no training image.
        """
        sizes = {"train": self.train_size, "validation": self.validation_size, "test": self.test_size}
        require_memory(sum(sizes.values()), self.shape())
        draw = self._teacher() if self.task == "teacher" else self._clusters()
        splits = {name: draw(size, self._generator(name)) for name, size in sizes.items()}
        train = splits["train"]
        empty = (train.labels.bincount(minlength=self.classes) == 0).nonzero().flatten().tolist()
        if empty:
            raise DataError(
                f"dataset: in the {self.task} task, class {empty[0]} has no training image; "
                "raise dataset.train_size or dataset.image_size, lower dataset.classes, or change dataset.sample"
            )
        splits["train"] = Split(train.images, self._noisy(train.labels))
        return normalised(*splits.values(), classes=self.classes)

    def _teacher(self) -> Any:
        """A function (size, generator) -> Split of the teacher task."""
        generator, inputs = self._generator("task"), self.image_size**2
        first = _normal(generator, TEACHER_WIDTH, inputs) * (2 / inputs) ** 0.5
        second = _normal(generator, TEACHER_WIDTH, TEACHER_WIDTH) * (2 / TEACHER_WIDTH) ** 0.5
        last = _normal(generator, self.classes, TEACHER_WIDTH)

        def logits(x: Tensor) -> Tensor:
            return torch.relu(torch.relu(x @ first.T) @ second.T) @ last.T

        reference = logits(_normal(generator, TEACHER_REFERENCE, inputs))
        mean, std = reference.mean(0), reference.std(0)

        def draw(size: int, generator: torch.Generator) -> Split:
            x = _normal(generator, size, inputs)
            return self._split(x, ((logits(x) - mean) / std).argmax(1))

        return draw

    def _clusters(self) -> Any:
        """A function (size, generator) -> Split of the cluster task; all classes are equally frequent."""
        inputs = self.image_size**2
        centres = CENTRE_SPREAD * _normal(self._generator("task"), self.classes, CENTRES_PER_CLASS, inputs)

        def draw(size: int, generator: torch.Generator) -> Split:
            labels = torch.arange(size) % self.classes
            which = torch.randint(CENTRES_PER_CLASS, (size,), generator=generator)
            return self._split(centres[labels, which] + _normal(generator, size, inputs), labels)

        return draw

    def _split(self, x: Tensor, labels: Tensor) -> Split:
        return Split(x.float().view(-1, 1, self.image_size, self.image_size), labels)

    def _noisy(self, labels: Tensor) -> Tensor:
        """The labels with round(label_noise * N) of them moved to another class, all others equally likely."""
        generator = self._generator("noise")
        chosen = torch.randperm(len(labels), generator=generator)[: round(self.label_noise * len(labels))]
        shift = torch.randint(1, self.classes, (len(chosen),), generator=generator)
        noisy = labels.clone()
        noisy[chosen] = (labels[chosen] + shift) % self.classes
        return noisy

    def _generator(self, purpose: str) -> torch.Generator:
        """A separate stream for each purpose, so that the size of one split does not change another split."""
        named = f"{self.task}/{self.sample}/{purpose}"
        seed = int.from_bytes(hashlib.blake2b(named.encode(), digest_size=7).digest())
        return torch.Generator().manual_seed(seed)


def _normal(generator: torch.Generator, *shape: int) -> Tensor:
    """Standard normal numbers in double precision, so that a label does not depend on the last bit of a float."""
    return torch.randn(shape, generator=generator, dtype=torch.float64)
