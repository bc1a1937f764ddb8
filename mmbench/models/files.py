"""Files of weights, and the configuration in them: tensors and plain data only, so that reading one runs no code."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from mmbench.errors import ConfigError, UndefinedError
from mmbench.models.reading import checked

KEY = "model.checkpoint"
METADATA = "mmbench"
"""The key of the configuration among a file's metadata."""


def is_there(path: str | Path) -> bool:
    """Whether the file of FILE or FILE::NAME exists."""
    return Path(str(path).partition("::")[0]).is_file()


def configuration_in(path: str | Path) -> dict[str, Any] | None:
    """The configuration in a file, checked, or None if it has none; errors are those of `read_file`."""
    return read_file(Path(str(path).partition("::")[0]))[1]


def read_file(path: Path) -> tuple[Any, dict[str, Any] | None]:
    """The content of a file of weights, and the configuration in it.

    Args:
        path: a safetensors or torch file; which of them is seen from its content.

    Returns:
        Tensors by name, or what else a torch file holds; and the configuration or None.

    Raises:
        ConfigError: the file does not exist or cannot be read, or its configuration is none.
    """
    if not path.is_file():
        raise ConfigError(f"{KEY} = {str(path)!r} is not a file; give the file that the weights were saved to")
    try:
        if _is_safetensors(path):
            with safe_open(path, "pt") as file:
                content: Any = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                text = (file.metadata() or {}).get(METADATA)
                entries = None if text is None else json.loads(text)
        else:
            with torch.serialization.safe_globals([argparse.Namespace]):  # timm saves its arguments
                content = torch.load(path, map_location="cpu", weights_only=True)
            entries = content.get("configuration") if isinstance(content, Mapping) else None
            entries = entries if isinstance(entries, Mapping) and "model" in entries and "shape" in entries else None
    except Exception as error:  # the readers of the formats raise many types
        raise ConfigError(_unreadable(path, str(error).strip() or type(error).__name__)) from None
    if entries is not None:
        try:
            checked(entries)
        except (ConfigError, UndefinedError) as error:
            raise ConfigError(f"{KEY} = {str(path)!r}: {error}") from None
    return content, entries if entries is None else dict(entries)


def _is_safetensors(path: Path) -> bool:
    """Whether a file begins with the length of a JSON object and that object."""
    with path.open("rb") as file:
        start = file.read(9)
    return path.suffix == ".safetensors" or (start[8:] == b"{" and int.from_bytes(start[:8], "little") < 2**30)


def _unreadable(path: Path, text: str) -> str:
    """The message for a file that holds more than tensors and plain containers, or is broken."""
    try:
        names = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(str(path)))
    except Exception:  # the file is of torch's old format, or none of torch's
        names = re.findall(r"GLOBAL (\S+)", text)
    if names:
        return (
            f"{KEY} = {str(path)!r} holds more than weights, and reading it could run code: {', '.join(names[:5])}. "
            "Save weights alone: mmbench.save(model, FILE), or safetensors.torch.save_file(model.state_dict(), FILE)"
        )
    reason = "it is not a safetensors or torch file" if "eights_only" in text else text.splitlines()[0].rstrip(".")
    return f"{KEY} = {str(path)!r} cannot be read as weights: {reason}"
