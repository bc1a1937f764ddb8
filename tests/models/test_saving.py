"""A network comes back from its file as it was, from the file alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

import mmbench
from mmbench.data.base import InputShape
from mmbench.errors import ConfigError, StoreError, UndefinedError
from mmbench.models.base import MODELS
from mmbench.models.files import configuration_in
from mmbench.models.reading import architecture_of
from mmbench.models.saving import architecture_for, load_for
from mmbench.testing.models import NETWORKS, SHAPE, images, network
from tests.models.stock import vit

TINY = {"img_size": 32, "depth": 2, "embed_dim": 12, "num_heads": 2, "num_classes": 10}


def trained() -> Any:
    model = timm.create_model("vit_tiny_patch16_224", **TINY, drop_path_rate=0.2, drop_rate=0.1)
    nn.init.normal_(model.get_parameter("head.weight"))
    return model.eval()


@pytest.mark.parametrize("name", ["net.safetensors", "net.pth", "net"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("family", NETWORKS)
def test_every_network_comes_back(family: str, dtype: torch.dtype, name: str, tmp_path: Path) -> None:
    model = network(NETWORKS[family], dtype)
    state = torch.get_rng_state()
    again = mmbench.load(mmbench.save(model, tmp_path / name))
    assert torch.equal(torch.get_rng_state(), state)
    assert architecture_of(again) == architecture_of(model)
    assert torch.equal(again(images(dtype=dtype)), model(images(dtype=dtype)))
    assert [*tmp_path.iterdir()] == [tmp_path / name]


@pytest.mark.parametrize("operator", ["lemon", "net2wider", "identity_block"])
def test_a_grown_network_comes_back_with_all_that_it_has(operator: str, tmp_path: Path) -> None:
    small, x = trained(), torch.randn(2, 3, 32, 32)
    large: Any = mmbench.expand(small, operator, factor=2.0)
    again: Any = mmbench.load(mmbench.save(torch.compile(large), tmp_path / "large.pth"))
    assert torch.equal(again(x), large(x))
    assert mmbench.configuration(again) == mmbench.configuration(large)
    assert again.pretrained_cfg == large.pretrained_cfg
    assert again.pretrained_cfg["mean"] == small.pretrained_cfg["mean"] == (0.5, 0.5, 0.5)
    (entry,) = again.grown
    assert entry["expansion"]["name"] == operator
    assert MODELS.create(entry["from"]) == architecture_of(small)[0]
    assert [entry["expansion"]["name"] for entry in mmbench.expand(again, "stack", factor=2.0).grown] == [  # type: ignore[union-attr]
        operator,
        "stack",
    ]


def test_what_torch_saved_with_a_configuration_is_read(tmp_path: Path) -> None:
    large: Any = mmbench.expand(trained(), "lemon", factor=1.5).eval()
    torch.save({"state": large.state_dict(), "configuration": mmbench.configuration(large)}, tmp_path / "large.pth")
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(mmbench.load(tmp_path / "large.pth")(x), large(x))
    read = load_for(InputShape(3, 32, 10), NETWORKS["mlp"], tmp_path / "large.pth")
    assert torch.equal(read(x), large(x))


def test_a_file_is_read_with_its_own_sizes(tmp_path: Path) -> None:
    path = mmbench.save(network(NETWORKS["vit with options"]), tmp_path / "x.safetensors")
    given = MODELS.create({"name": "vit", "heads": 4})
    assert architecture_for(path, given, ["name"]) == NETWORKS["vit with options"]
    assert architecture_of(load_for(SHAPE, given, path))[0] == NETWORKS["vit with options"]
    with pytest.raises(ConfigError, match=r"model.heads = 4 contradicts model.checkpoint = .*whose network has 2"):
        architecture_for(path, given, ["name", "heads"])
    with pytest.raises(ConfigError, match=r"model = mlp contradicts .* has vit"):
        architecture_for(path, NETWORKS["mlp"], ["name"])
    with pytest.raises(
        ConfigError, match="is a network for images of 2 x 8 x 8 and 3 classes; the data set has images"
    ):
        load_for(SHAPE._replace(classes=7), given, path)


def test_position_embeddings_follow_the_images_of_the_data(tmp_path: Path) -> None:
    path = mmbench.save(network(NETWORKS["vit"], torch.float32), tmp_path / "x.safetensors")
    told: list[str] = []
    model = load_for(SHAPE._replace(image_size=16), NETWORKS["vit"], path, told.append)
    assert architecture_of(model)[1].image_size == 16
    assert "pos_embed was resampled" in told[0]


def test_timm_does_not_take_a_grown_network_for_the_small_one(tmp_path: Path) -> None:
    small = trained()
    large: Any = mmbench.expand(small, "net2wider", factor=2.0)
    timm.models.save_for_hf(large, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["architecture"] == "expanded_by_mmbench"
    with pytest.raises(RuntimeError, match="Unknown model"):
        timm.create_model("expanded_by_mmbench")
    assert not {"url", "hf_hub_id", "file"} & large.pretrained_cfg.keys()
    same: Any = mmbench.expand(small, "none")
    assert same.pretrained_cfg == small.pretrained_cfg


def test_build_keeps_the_preprocessing() -> None:
    small = trained()
    assert mmbench.build(mmbench.configuration(small)).pretrained_cfg == small.pretrained_cfg


def tied() -> nn.Module:
    model: Any = vit()
    model.blocks[1].mlp.fc1.weight = model.blocks[0].mlp.fc1.weight
    return model


def test_what_a_file_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UndefinedError, match=r"'blocks\.0\.mlp\.fc1\.weight' and 'blocks\.1\.mlp\.fc1\.weight' are one"
    ):
        mmbench.save(tied(), tmp_path / "x")
    with pytest.raises(UndefinedError, match="no weights to save"):
        mmbench.save(vit().to("meta"), tmp_path / "x")
    with pytest.raises(UndefinedError, match="belongs to no family"):
        mmbench.save(nn.Linear(2, 2), tmp_path / "x")
    with pytest.raises(StoreError, match="cannot write"):
        mmbench.save(vit(), tmp_path / "nowhere/x")
    assert not [*tmp_path.iterdir()]


def test_a_file_of_weights_alone_has_no_sizes(tmp_path: Path) -> None:
    torch.save(vit().state_dict(), tmp_path / "x.pt")
    assert configuration_in(tmp_path / "x.pt") is None
    with pytest.raises(ConfigError, match=r"has no configuration, so its sizes are unknown.*mmbench\.save"):
        mmbench.load(tmp_path / "x.pt")


def test_a_wrong_configuration_in_a_file_is_told(tmp_path: Path) -> None:
    content = {"state": vit().state_dict(), "configuration": {"model": {"name": "wit"}, "shape": SHAPE._asdict()}}
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(ConfigError, match=r"x\.pt.*model\.name = 'wit' is unknown"):
        mmbench.load(tmp_path / "x.pt")
