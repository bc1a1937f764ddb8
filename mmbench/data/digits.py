"""scikit-learn's digits: 1,797 real 8x8 grey images of handwritten digits (Alpaydin and Kaynak, 1998; UCI).

They are part of scikit-learn, so this data set needs no download. The split is fixed and stratified: 597 test images,
200 validation images, and the first `train_size` of the remaining 1,000.
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field

from mmbench.data.base import DATASETS, Data, Dataset, InputShape, Progress, Split, normalised, silent


@DATASETS.register("digits")
class Digits(Dataset):
    """Handwritten digits, 8x8, ten classes."""

    train_size: int = Field(1000, ge=10, le=1000)
    """Training images; fewer leave more headroom."""

    def shape(self) -> InputShape:
        """One channel, 8x8, ten classes."""
        return InputShape(1, 8, 10)

    def load(self, progress: Progress[Any] = silent) -> Data:
        """The three splits; the integers 0..16 of the images are divided by 16 before they are normalised."""
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        bunch = load_digits()
        images = torch.tensor(bunch.images, dtype=torch.float32)[:, None] / 16
        labels = torch.tensor(bunch.target, dtype=torch.int64)
        rest, test = train_test_split(range(len(labels)), test_size=597, random_state=0, stratify=bunch.target)
        train, validation = train_test_split(rest, test_size=200, random_state=0, stratify=bunch.target[rest])
        parts = (Split(images[part], labels[part]) for part in (train[: self.train_size], validation, test))
        return normalised(*parts, classes=10)
