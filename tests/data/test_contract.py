"""The contract of every registered data source."""

from mmbench.data.base import DATASETS
from mmbench.testing.datasets import DatasetContract
from tests.data.conftest import write_image_folder, write_parquet


class TestDigits(DatasetContract):
    dataset = "digits"
    changes = ({"train_size": 300},)


class TestSynthetic(DatasetContract):
    dataset = "synthetic"
    variants = ({"task": "teacher", "label_noise": 0.3}, {"task": "clusters"})
    changes = ({"sample": 1}, {"train_size": 300}, {"image_size": 5}, {"classes": 3}, {"label_noise": 0.5})


class TestParquet(DatasetContract):
    dataset = "parquet"
    variants = ({}, {"train_size": 30, "image_size": 5, "channels": 1})
    changes = ({"image_size": 7}, {"train_size": 20})

    def options(self, folder, seed):
        return {"path": str(write_parquet(folder, seed))}


class TestTimm(DatasetContract):
    dataset = "timm"
    variants = ({"source": "folder"}, {"source": "torch/folder", "channels": 1})
    changes = ({"image_size": 7}, {"train_size": 10})

    def options(self, folder, seed):
        return {"root": str(write_image_folder(folder, seed)), "classes": 2, "image_size": 6}


def test_every_source_is_under_contract():
    assert {contract.dataset for contract in DatasetContract.__subclasses__()} == set(DATASETS.names())
