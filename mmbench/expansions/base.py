"""What an expansion is: where it leads, and with which weights it fills the larger network."""

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
"""For each block of the larger network the block of the small one that it continues, or None."""


@dataclass(frozen=True)
class Target:
    """Where an expansion leads: the larger architecture, along which axis, by which factor."""

    architecture: Architecture
    axis: str
    factor: float


@dataclass(frozen=True)
class Growth:
    """Everything an operator needs to fill the larger network's state. All tensors lie on the CPU."""

    base: Architecture
    target: Architecture
    shape: InputShape
    small: State
    fresh: State
    """The larger network's own initialisation."""
    arrangement: Arrangement
    generator: torch.Generator
    model: nn.Module
    """The small network. Not to be changed."""
    data: tuple[torch.Tensor, torch.Tensor] | None
    """Training images (N, C, H, W) and labels (N,), for operators that need them."""
    learned: dict[str, Any] = field(default_factory=dict)
    """What the operator has learned from the first network that it expanded: it is kept for the next ones."""

    @cached_property
    def old(self) -> Table:
        """The small network's axis table."""
        return self.base.table(self.shape)

    @cached_property
    def new(self) -> Table:
        """The larger network's axis table."""
        return self.target.table(self.shape)

    def place(self, name: str) -> tuple[str, str]:
        """The block of the larger network that a tensor is in, and the rest of its name; no block: an empty text."""
        parts = name.split(".")
        for end in range(1, len(parts)):
            if (block := ".".join(parts[:end])) in self.arrangement:
                return block, name[len(block) :]
        return "", name

    def source(self, name: str) -> str | None:
        """The tensor of the small network that one of the larger continues; None in an inserted block."""
        block, rest = self.place(name)
        origin = self.arrangement[block] if block else ""
        return None if origin is None else origin + rest


class Expansion(Component):
    """Base of all operators; a subclass says where it leads (`target`) and with which weights (`fill`)."""

    preserves: ClassVar[Preserves]
    """Whether the expanded network computes the small one's function: `exact` in evaluation and in training mode,
    `evaluation` only there, approximately, or not."""
    arm: ClassVar[Literal["expansion", "control"]] = "expansion"
    """Controls (`none`, `scratch`) are what an expansion is compared with."""
    families: ClassVar[tuple[str, ...] | None] = None
    """The families that it is defined for; None for all that grow along its axis."""
    needs_data: ClassVar[bool] = False
    """Whether it looks at training images and labels."""
    learns: ClassVar[bool] = False
    """Whether it keeps in `Growth.learned` what it found on the first network."""

    @classmethod
    def axes(cls) -> tuple[str, ...]:
        """The axes that it can grow a network along."""
        return get_args(cls.model_fields["axis"].annotation) if "axis" in cls.model_fields else ()

    @abstractmethod
    def target(self, base: Architecture, shape: InputShape) -> Target:
        """The larger architecture; `UndefinedError` if the operator is not defined for this one. Needs no torch."""

    @abstractmethod
    def fill(self, growth: Growth) -> Filled:
        """Name and values of every tensor of the larger network's state."""

    def arrange(self, old: list[str], new: list[str], tables: tuple[Table, Table]) -> list[str | None]:
        """For each block of a stage of the larger network the block of the small one that it continues, or None."""
        return [*old, *[None] * (len(new) - len(old))]

    def arrangement(self, base: Architecture, target: Architecture, shape: InputShape) -> Arrangement:
        """`arrange`, stage by stage; `UndefinedError` where the small network has no block to continue."""
        tables = base.table(shape), target.table(shape)
        stages = zip(base.blocks(), target.blocks(), strict=True)
        return {
            block: origin
            for old, new in stages
            for block, origin in zip(new, self.arrange(old, new, tables), strict=True)
        }

    def steps(self, base: Architecture, shape: InputShape) -> list[tuple[Expansion, Architecture]]:
        """The operators that make up this one, in order, each with the architecture that it leads to."""
        return [(self, self.target(base, shape).architecture)]

    def training_steps(self, steps: int, base_flops: int, flops: int) -> int:
        """For how many steps the expanded network is trained, where the base model was trained for `steps`."""
        return steps

    @property
    def label(self) -> str:
        """The operator in a few words, for people."""
        return self.name

    def asked_for(self, base: Architecture, shape: InputShape) -> float | None:
        """The parameter count that the options ask for as a multiple of the base model's; None where none is."""
        return None

    def refuse_other_families(self, base: Architecture) -> None:
        """`UndefinedError` unless the operator is defined for the family."""
        if self.families is not None and base.name not in self.families:
            raise UndefinedError(
                f"{self.name} is not defined for the family {base.name!r}{self.because(base)}; it is for "
                f"{', '.join(self.families)}"
            )

    def because(self, base: Architecture) -> str:
        """Why the operator is not defined for a family, in words that follow its name."""
        return ""


EXPANSIONS: Registry[Expansion] = Registry("expansion", "mmbench.expansions")
