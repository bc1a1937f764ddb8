"""Copies of networks, and tensors that are shared inside one."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound="nn.Module")
TABLES = (dict, OrderedDict, set)


def copied(model: Network) -> Network:
    """A deep copy of a network with the same modes and the same trainable parameters.

    `copy.deepcopy` spends most of its time on the modules' empty tables of hooks; here each gets a new empty table
    instead.

    Returns:
        A network of the same class that shares no memory with `model`.
    """
    tables = [table for module in model.modules() for table in vars(module).values() if type(table) in TABLES]
    return copy.deepcopy(model, {id(table): type(table)() for table in tables if not table})


def tied(model: nn.Module) -> Iterator[tuple[str, str]]:
    """The parameters and buffers of a network that are one tensor, or begin at one place in memory.

    Args:
        model: any network.

    Yields:
        The names of the first and of each later one.
    """
    first: dict[tuple[torch.device, int], str] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        place = tensor.device, id(tensor) if tensor.is_meta else tensor.data_ptr()
        if tensor.numel() and (known := first.setdefault(place, name)) != name:
            yield known, name
