"""scikit-learn's digits: 1,797 real 8x8 grey images of handwritten digits (Alpaydin and Kaynak, 1998; UCI).

They ship inside scikit-learn, so this is the data set that works everywhere at once. The split is fixed and
stratified: 597 test and 200 validation images, of the other 1,000 the first `train_size`.
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
    """Images trained on; fewer leave more headroom."""

    def shape(self) -> InputShape:
        """One channel, 8x8, ten classes."""
        return InputShape(1, 8, 10)

    def load(self, progress: Progress[Any] = silent) -> Data:
        """The three splits; images were integers 0..16."""
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        bunch = load_digits()
        images = torch.tensor(bunch.images, dtype=torch.float32)[:, None] / 16
        labels = torch.tensor(bunch.target, dtype=torch.int64)
        rest, test = train_test_split(range(len(labels)), test_size=597, random_state=0, stratify=bunch.target)
        train, validation = train_test_split(rest, test_size=200, random_state=0, stratify=bunch.target[rest])
        parts = (Split(images[part], labels[part]) for part in (train[: self.train_size], validation, test))
        return normalised(*parts, classes=10)
