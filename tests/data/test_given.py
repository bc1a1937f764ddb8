"""Images and labels are understood in every form that people have them in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from mmbench.data.base import Split
from mmbench.data.given import pair_of
from mmbench.errors import ConfigError

IMAGES, LABELS = torch.arange(20.0).reshape(5, 1, 2, 2), torch.tensor([0, 1, 2, 0, 1])


class Examples(Dataset[Any]):
    """A data set of one's own; it does not know where it ends."""

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return IMAGES[index % 5], int(LABELS[index % 5])


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(zip(IMAGES, LABELS, strict=True))


FORMS: dict[str, Any] = {
    "tensors": (IMAGES, LABELS),
    "a list of tensors": [IMAGES, LABELS],
    "arrays": (IMAGES.numpy(), LABELS.numpy()),
    "nested lists": (IMAGES.tolist(), LABELS.tolist()),
    "a split": Split(IMAGES, LABELS),
    "a TensorDataset": TensorDataset(IMAGES, LABELS),
    "a data set of one's own": Examples(),
    "a stream": Stream(),
    "a loader": DataLoader(TensorDataset(IMAGES, LABELS), batch_size=2),
    "a loader of a data set of one's own": DataLoader(Examples(), batch_size=2),
    "two batches": [(IMAGES[:3], LABELS[:3]), (IMAGES[3:], LABELS[3:])],
    "a generator of batches": ((IMAGES[i : i + 1], LABELS[i : i + 1]) for i in range(5)),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_understood(form: str) -> None:
    images, labels = pair_of(FORMS[form])
    assert torch.equal(images, IMAGES) and torch.equal(labels, LABELS)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (None, "not NoneType"),
        (7, "not int"),
        (IMAGES, "not Tensor: it has no labels"),
        ("digits", "found str"),
        ({"images": IMAGES, "labels": LABELS}, "not dict: found str"),
        (iter([]), "it is empty"),
        ([(IMAGES, LABELS, LABELS)], "found tuple"),
        ([(object(), 3)], "found an image of type object"),
        (["a", "b"], "not list"),
    ],
    ids=["nothing", "a number", "images", "a name", "a dictionary", "no batches", "triples", "objects", "texts"],
)
def test_what_is_no_data_is_told(data: Any, why: str) -> None:
    with pytest.raises(ConfigError, match=r"data must be \(images, labels\), a data set .* or a loader") as told:
        pair_of(data)
    assert why in str(told.value)
