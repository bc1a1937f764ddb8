"""Load weights from a file into a network: safetensors, or a torch file that holds only weights.

All formats that timm saves are accepted: a plain state dict, {"state_dict": ...}, and averaged weights
("state_dict_ema"), which are preferred. A torch file is a pickle, which can run code when it is read, so only tensors
and plain containers are accepted.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import nn

from mmbench.errors import ConfigError

KEY = "model.checkpoint"
SHOWN = 5
"""Largest number of tensors that a message names."""


def load_checkpoint(model: nn.Module, path: str | Path) -> nn.Module:
    """Load all weights of `model` from a file, in place.

    Args:
        model: the network; its tensors must have the names and shapes of those in the file.
        path: a safetensors or torch file.

    Returns:
        `model`, in evaluation mode.

    Raises:
        ConfigError: the file does not exist or holds something other than weights, a weight is not finite, or the
            weights belong to another network; the message names the tensors that differ.
    """
    state, own = _read(Path(path)), model.state_dict()
    problems = []
    if missing := sorted(own.keys() - state.keys()):
        problems.append(f"it lacks {_named(missing)}")
    if foreign := sorted(state.keys() - own.keys()):
        problems.append(f"it has {_named(foreign)}, which the model does not have")
    shapes = [
        f"{name} is {tuple(state[name].shape)} there and {tuple(own[name].shape)} in the model"
        for name in sorted(own.keys() & state.keys())
        if state[name].shape != own[name].shape
    ]
    if shapes:
        problems.append(_named(shapes))
    if problems:
        raise ConfigError(
            f"{KEY} = {str(path)!r} does not fit the model: {'; '.join(problems)}. Give the model and its sizes as "
            "they were trained: model=NAME model.OPTION=VALUE"
        )
    if bad := [name for name, tensor in state.items() if tensor.is_floating_point() and not tensor.isfinite().all()]:
        raise ConfigError(f"{KEY} = {str(path)!r} has values that are not finite numbers in {_named(bad)}")
    model.load_state_dict(state)
    return model.eval()


def _named(names: list[str]) -> str:
    rest = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _read(path: Path) -> dict[str, torch.Tensor]:
    from timm.models import load_state_dict

    if not path.is_file():
        raise ConfigError(f"{KEY} = {str(path)!r} is not a file; give the file that the weights were saved to")
    try:
        state = load_state_dict(str(path), weights_only=True)
    except Exception as error:  # the readers of the formats raise many types
        text = str(error).strip() or type(error).__name__
        if match := re.search(r"(?:Unsupported globals?:|GLOBAL) (.+?)(?:\. No automatic| was not an allowed|$)", text):
            raise ConfigError(
                f"{KEY} = {str(path)!r} holds more than weights, and reading it could run code: "
                f"{_named(match[1].split(', '))}. Save the weights alone: safetensors.torch.save_file"
                "(model.state_dict(), FILE)"
            ) from None
        reason = "it is not a safetensors or torch file" if "weights_only" in text else text.splitlines()[0].rstrip(".")
        raise ConfigError(f"{KEY} = {str(path)!r} cannot be read as weights: {reason}") from None
    if not isinstance(state, dict) or not state or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ConfigError(f"{KEY} = {str(path)!r} does not hold a state dict (tensors by name)")
    return state
