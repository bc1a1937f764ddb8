"""What an expansion is: it defines a larger architecture and fills it with weights."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import nn

from mmbench.data.base import InputShape
from mmbench.errors import UndefinedError
from mmbench.models.base import Architecture
from mmbench.models.table import Table
from mmbench.registry import Component, Registry

State = dict[str, torch.Tensor]
Filled = Iterator[tuple[str, torch.Tensor]]

Preserves = Literal["exact", "evaluation", "approximate", "no"]
Arrangement = Mapping[str, str | None]
"""Maps each block of the larger network to the block of the small one that it continues; None for a new block."""


@dataclass(frozen=True)
class Target:
    """The result of an expansion: the larger architecture, the axis it grew along, and the factor."""

    architecture: Architecture
    axis: str
    factor: float


@dataclass(frozen=True)
class Growth:
    """Everything an operator needs to fill the larger network's state. All tensors are on the CPU."""

    base: Architecture
    target: Architecture
    shape: InputShape
    small: State
    fresh: State
    """The larger network's own initialisation."""
    arrangement: Arrangement
    generator: torch.Generator
    model: nn.Module
    """The small network, which must not be changed."""
    data: tuple[torch.Tensor, torch.Tensor] | None
    """Training images (N, C, H, W) and labels (N,), for operators that need them."""
    learned: dict[str, Any] = field(default_factory=dict)
    """What the operator learned from the first network that it expanded, for reuse with later ones."""

    @cached_property
    def old(self) -> Table:
        """The small network's axis table."""
        return self.base.table(self.shape)

    @cached_property
    def new(self) -> Table:
        """The larger network's axis table."""
        return self.target.table(self.shape)

    def place(self, name: str) -> tuple[str, str]:
        """The block of the larger network that holds a tensor ("" if none does), and the rest of the tensor's name."""
        parts = name.split(".")
        for end in range(1, len(parts)):
            if (block := ".".join(parts[:end])) in self.arrangement:
                return block, name[len(block) :]
        return "", name

    def source(self, name: str) -> str | None:
        """The tensor of the small network that a tensor of the larger one continues; None in a new block."""
        block, rest = self.place(name)
        origin = self.arrangement[block] if block else ""
        return None if origin is None else origin + rest


class Expansion(Component):
    """Base of all operators; a subclass defines the larger architecture (`target`) and its weights (`fill`)."""

    preserves: ClassVar[Preserves]
    """Whether the expanded network computes the same function as the small one: `exact` in evaluation and in training
    mode, `evaluation` in evaluation mode only, `approximate`, or `no`."""
    arm: ClassVar[Literal["expansion", "control"]] = "expansion"
    """Expansions are compared with controls (`none`, `scratch`)."""
    families: ClassVar[tuple[str, ...] | None] = None
    """The families that it is defined for; None for all that can grow along its axis."""
    needs_data: ClassVar[bool] = False
    """Whether it uses training images and labels."""
    learns: ClassVar[bool] = False
    """Whether it stores in `Growth.learned` what it learned from the first network."""

    @classmethod
    def axes(cls) -> tuple[str, ...]:
        """The axes that it can grow a network along."""
        return get_args(cls.model_fields["axis"].annotation) if "axis" in cls.model_fields else ()

    @abstractmethod
    def target(self, base: Architecture, shape: InputShape) -> Target:
        """The larger architecture, computed without building a network; `UndefinedError` if there is none."""

    @abstractmethod
    def fill(self, growth: Growth) -> Filled:
        """Name and values of every tensor of the larger network's state."""

    def arrange(self, old: list[str], new: list[str], tables: tuple[Table, Table]) -> list[str | None]:
        """Decide which blocks of a stage continue old ones; by default the first ones do.

        Args:
            old: the small network's blocks of the stage, in forward order.
            new: the larger network's blocks of the stage.
            tables: the axis tables of the small and the larger network.

        Returns:
            For each block in `new` the block in `old` that it continues, or None for a new block.

        Raises:
            UndefinedError: in subclasses, if `old` has no block that fits.
        """
        return [*old, *[None] * (len(new) - len(old))]

    def arrangement(self, base: Architecture, target: Architecture, shape: InputShape) -> Arrangement:
        """Apply `arrange` to every stage.

        Args:
            base: the small architecture.
            target: the larger one, with the same number of stages.
            shape: what the networks are built for.

        Returns:
            The arrangement of all blocks of the larger network.

        Raises:
            UndefinedError: a stage has no block that fits.
        """
        tables = base.table(shape), target.table(shape)
        stages = zip(base.blocks(), target.blocks(), strict=True)
        return {
            block: origin
            for old, new in stages
            for block, origin in zip(new, self.arrange(old, new, tables), strict=True)
        }

    def steps(self, base: Architecture, shape: InputShape) -> list[tuple[Expansion, Architecture]]:
        """The operators that this one is composed of, in order, each with the architecture that it leads to."""
        return [(self, self.target(base, shape).architecture)]

    def training_steps(self, steps: int, base_flops: int, flops: int) -> int:
        """The length of the expanded network's training; by default that of the base model's training.

        Args:
            steps: of the base model's training.
            base_flops: operations of one forward pass of the base model.
            flops: operations of one forward pass of the expanded network.

        Returns:
            Optimiser steps.
        """
        return steps

    @property
    def label(self) -> str:
        """A short name for tables and figures."""
        return self.name

    def asked_for(self, base: Architecture, shape: InputShape) -> float | None:
        """The parameter count that the options ask for, as a multiple of the base model's; None if there is none."""
        return None

    def refuse_other_families(self, base: Architecture) -> None:
        """`UndefinedError` unless the operator is defined for the family."""
        if self.families is not None and base.name not in self.families:
            raise UndefinedError(
                f"{self.name} is not defined for the family {base.name!r}{self.because(base)}; its families are "
                f"{', '.join(self.families)}"
            )

    def because(self, base: Architecture) -> str:
        """Why the operator is not defined for a family, as a clause that follows the family's name."""
        return ""


EXPANSIONS: Registry[Expansion] = Registry("expansion", "mmbench.expansions")
