"""Copies of networks."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import TypeVar

from torch import nn

Network = TypeVar("Network", bound="nn.Module")
TABLES = (dict, OrderedDict, set)


def copied(model: Network) -> Network:
    """A deep copy of a network, its modes and what is trainable as they are.

    Most of the time of `copy.deepcopy` goes into the modules' empty tables of hooks; these are made anew beforehand.
    """
    tables = [table for module in model.modules() for table in vars(module).values() if type(table) in TABLES]
    return copy.deepcopy(model, {id(table): type(table)() for table in tables if not table})
