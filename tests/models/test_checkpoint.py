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
