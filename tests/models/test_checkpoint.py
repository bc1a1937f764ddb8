"""Weights are read from all that timm saves, and nothing else is read."""

from __future__ import annotations

import argparse
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mmbench.data.base import InputShape
from mmbench.errors import ConfigError
from mmbench.models.base import MODELS
from mmbench.models.checkpoint import load_checkpoint


def network(seed: int = 0, **options: Any) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return MODELS.create({"name": "resnet", "channels": [2, 3, 4], **options}).build(InputShape(1, 8, 10))


def plain(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


WAYS = {
    "plain": plain,
    "state_dict": lambda model: {"state_dict": plain(model), "epoch": 7},
    "model": lambda model: {"model": plain(model)},
    "averaged weights": lambda model: {"state_dict": plain(network(9)), "state_dict_ema": plain(model)},
    "of a parallel module": lambda model: OrderedDict((f"module.{k}", v) for k, v in plain(model).items()),
    "with timm's arguments": lambda model: {"state_dict": plain(model), "args": argparse.Namespace(lr=0.1)},
}


@pytest.mark.parametrize("way", WAYS)
def test_what_timm_saves_is_read(way: str, tmp_path: Path) -> None:
    trained = network(3)
    torch.save(WAYS[way](trained), tmp_path / "weights.pt")
    found = load_checkpoint(network(), tmp_path / "weights.pt")
    assert not found.training
    assert all(torch.equal(tensor, found.state_dict()[name]) for name, tensor in trained.state_dict().items())


def test_safetensors_are_read(tmp_path: Path) -> None:
    trained = network(3)
    save_file(plain(trained), tmp_path / "weights.safetensors")
    found = load_checkpoint(network(), str(tmp_path / "weights.safetensors"))
    assert all(torch.equal(tensor, found.state_dict()[name]) for name, tensor in trained.state_dict().items())


class Trap:
    """Would leave a file behind if it were unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_pickle_that_could_run_code_is_refused_and_not_run(tmp_path: Path) -> None:
    torch.save({"state_dict": plain(network()), "more": Trap(tmp_path / "sprung")}, tmp_path / "weights.pt")
    with pytest.raises(
        ConfigError, match=r"model\.checkpoint = .* holds more than weights, .*could run code: .*pathlib"
    ):
        load_checkpoint(network(), tmp_path / "weights.pt")
    assert not (tmp_path / "sprung").exists()


def test_a_whole_network_is_refused(tmp_path: Path) -> None:
    torch.save(network(), tmp_path / "whole.pt")
    with pytest.raises(ConfigError, match="holds more than weights"):
        load_checkpoint(network(), tmp_path / "whole.pt")


@pytest.mark.parametrize(
    "content", [b"", b"no weights at all", b"PK\x03\x04 broken"], ids=["empty", "text", "a torn zip"]
)
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_a_file_of_something_else_is_told(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights.{suffix}"
    path.write_bytes(content)
    with pytest.raises(
        ConfigError, match=r"model\.checkpoint = .* (cannot be read as weights|does not hold a state dict)"
    ):
        load_checkpoint(network(), path)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a file"):
        load_checkpoint(network(), tmp_path / "nothing.pt")


@pytest.mark.parametrize("content", [{"epoch": 3}, [1, 2], {}], ids=["no tensors", "a list", "nothing"])
def test_a_file_without_a_state_dict_is_told(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(ConfigError, match=r"does not hold a state dict|cannot be read"):
        load_checkpoint(network(), tmp_path / "weights.pt")


def test_the_tensors_that_differ_are_named(tmp_path: Path) -> None:
    state = plain(network())
    state["foreign.weight"] = state.pop("fc.bias")
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(ConfigError) as caught:
        load_checkpoint(network(channels=[2, 3, 5]), tmp_path / "weights.pt")
    message = str(caught.value)
    assert "it lacks fc.bias" in message
    assert "it has foreign.weight" in message
    assert "fc.weight is (10, 4) there and (10, 5) in the model" in message


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    state = plain(network())
    state["fc.weight"][0, 0] = float("nan")
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(ConfigError, match=r"not finite numbers in fc\.weight"):
        load_checkpoint(network(), tmp_path / "weights.pt")


def under(prefix: str, model: nn.Module) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in plain(model).items()}


def without_counters(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in plain(model).items() if not name.endswith("num_batches_tracked")}


FOUND = {
    **{prefix: lambda model, prefix=prefix: under(prefix, model) for prefix in ("net.", "a.b.", "_orig_mod.module.")},
    "Lightning": lambda model: {
        "state_dict": under("model.", model) | {"loss.weight": torch.ones(10)},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(3)}}}],
    },
    "solo-learn": lambda model: {"state_dict": under("backbone.", model) | {"projector.0.weight": torch.ones(3)}},
    "averaged by torch": lambda model: torch.optim.swa_utils.AveragedModel(model).state_dict(),
    "a compiled part": lambda model: {
        name.replace("stages.", "stages._orig_mod."): tensor for name, tensor in plain(model).items()
    },
    "under any key": lambda model: {"epoch": 3, "best": {"weights": plain(model)}},
    "before batches were counted": without_counters,
    "twice the same": lambda model: {"net": plain(model), "ema": plain(model)},
    "beside another size": lambda model: {"student": plain(model), "teacher": plain(network(1, channels=[4, 3, 4]))},
    "averaged beside the last": lambda model: {"model": plain(network(9)), "model_ema": plain(model)},
}


@pytest.mark.parametrize("way", FOUND)
def test_weights_are_found_by_the_names_of_the_network(way: str, tmp_path: Path) -> None:
    trained = network(3)
    torch.save(FOUND[way](trained), tmp_path / "weights.pt")
    found = load_checkpoint(network(), tmp_path / "weights.pt").state_dict()
    assert all(torch.equal(tensor, found[name]) for name, tensor in trained.state_dict().items())


SEVERAL = {
    "keys": lambda one, two: {"net": plain(one), "ema": plain(two)},
    "prefixes": lambda one, two: under("net.", one) | under("ema.", two),
    "keys of prefixed names": lambda one, two: {"state": under("net.", one), "ema": under("net.", two)},
}


@pytest.mark.parametrize("way", SEVERAL)
def test_several_networks_in_a_file_are_listed_and_chosen_by_name(way: str, tmp_path: Path) -> None:
    one, two = network(3), network(4)
    torch.save(SEVERAL[way](one, two), tmp_path / "weights.pt")
    with pytest.raises(ConfigError, match=r"several networks that fit: .*net, ema.*; choose one: .*::ema") as caught:
        load_checkpoint(network(), tmp_path / "weights.pt")
    chosen = str(caught.value).rpartition("model.checkpoint=")[2]
    assert torch.equal(load_checkpoint(network(), chosen).get_parameter("fc.weight"), two.get_parameter("fc.weight"))
    with pytest.raises(ConfigError, match=r"the file has .*, not 'nothing'"):
        load_checkpoint(network(), f"{tmp_path}/weights.pt::nothing")


def test_the_keys_of_a_file_of_another_network_are_listed(tmp_path: Path) -> None:
    torch.save({"teacher": plain(network(channels=[2, 3, 5])), "student": plain(nn.Linear(2, 2))}, tmp_path / "x.pt")
    with pytest.raises(ConfigError, match="the file holds teacher, student"):
        load_checkpoint(network(), tmp_path / "x.pt")


UNUSABLE = {
    "meta": (lambda tensor: tensor.to("meta"), r"fc\.weight is on the meta device, so it has no values"),
    "sparse": (lambda tensor: tensor.to_sparse(), r"fc\.weight is sparse .*to_dense"),
    "whole numbers": (lambda tensor: tensor.to(torch.int8), r"fc\.weight has the type torch\.int8"),
}


@pytest.mark.filterwarnings("ignore:Validating sparse tensor")
@pytest.mark.parametrize(("change", "message"), UNUSABLE.values(), ids=UNUSABLE.keys())
def test_tensors_without_usable_values_are_named(change: Any, message: str, tmp_path: Path) -> None:
    state = plain(network())
    torch.save(state | {"fc.weight": change(state["fc.weight"])}, tmp_path / "weights.pt")
    with pytest.raises(ConfigError, match=message):
        load_checkpoint(network(), tmp_path / "weights.pt")


@pytest.mark.parametrize("options", [{}, {"registers": 2}, {"embed_prefix": False}], ids=str)
def test_position_embeddings_of_another_image_size_are_resampled(options: dict[str, Any], tmp_path: Path) -> None:
    family = MODELS["vit"](embed_dim=6, **options)
    large: Any = family.build(InputShape(1, 8, 3))
    torch.save(large.state_dict(), tmp_path / "x.pt")
    told: list[str] = []
    small: Any = load_checkpoint(family.build(InputShape(1, 4, 3)), tmp_path / "x.pt", told.append)
    prefix = 0 if large.no_embed_class else large.num_prefix_tokens
    assert "pos_embed was resampled" in told[0]
    assert torch.equal(small.pos_embed[:, :prefix], large.pos_embed[:, :prefix])
    grid = large.pos_embed[:, prefix:].reshape(1, 4, 4, 6).permute(0, 3, 1, 2)
    expected = nn.functional.interpolate(grid, (2, 2), mode="bicubic", antialias=True).flatten(2).mT
    assert torch.allclose(small.pos_embed[:, prefix:], expected, atol=1e-6)
