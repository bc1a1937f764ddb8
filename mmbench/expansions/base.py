"""What an expansion is, and the driver that applies one.

The larger network is built by its family's factory and its state is then filled, tensor by tensor, from the small
network's state through the two axis tables. The given network is never changed.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from mmbench.data.base import InputShape
from mmbench.errors import ConfigError, UndefinedError
from mmbench.expansions.budget import LARGEST_FACTOR, solve
from mmbench.models.base import Architecture, Table, architecture_of
from mmbench.registry import EXPANSIONS, Component

if TYPE_CHECKING:
    import torch
    from torch import nn

    State = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Target:
    """Where an expansion leads: the larger architecture, along which axis, by which factor."""

    architecture: Architecture
    axis: str
    factor: float


@dataclass(frozen=True)
class Growth:
    """Everything an operator needs to fill the larger network's state. All tensors lie on the CPU."""

    small: State
    fresh: State
    """The larger network's own initialisation."""
    old: Table
    new: Table
    source: dict[str, str | None]
    """For each tensor of the larger network the one of the small that it continues; None in an inserted block."""
    silent: frozenset[str]
    """The tensors that, set to zero, make the inserted blocks the identity."""
    generator: torch.Generator


class Expansion(Component):
    """Base of all operators; a subclass says where it leads (`target`) and with which weights (`fill`)."""

    preserves: ClassVar[Literal["exact", "no"]]
    """Whether the expanded network computes the small one's function, in evaluation and in training mode."""
    arm: ClassVar[Literal["expansion", "control"]] = "expansion"
    """Controls (`none`, `scratch`) are what an expansion is compared with."""

    @abstractmethod
    def target(self, base: Architecture, shape: InputShape) -> Target:
        """The larger architecture; `UndefinedError` if the operator is not defined for this one. Needs no torch."""

    @abstractmethod
    def fill(self, growth: Growth) -> State:
        """The larger network's state."""

    def arrange(self, old: list[str], new: list[str]) -> list[str | None]:
        """For each block of a stage of the larger network the block of the small one that it continues, or None."""
        return [*old, *[None] * (len(new) - len(old))]


class Sized(Expansion):
    """An expansion along an axis, by a factor or to a parameter budget."""

    axis: str
    """What grows."""
    factor: float = Field(2.0, gt=1, le=LARGEST_FACTOR)
    """Multiplies the channels (width, hidden) or the blocks (depth). Solved for where `budget` is set."""
    budget: float | None = Field(None, gt=1, le=LARGEST_FACTOR**2)
    """Target parameter count as a multiple of the base model's."""
    tolerance: float = Field(0.02, ge=0, le=0.05)
    """Largest relative difference between the count reached and the budget's."""

    def describe(self) -> dict[str, Any]:
        """The options that the result depends on: not the tolerance, nor a factor that the budget replaces."""
        without = {"tolerance", "factor"} if self.budget is not None else {"tolerance"}
        return {key: value for key, value in super().describe().items() if key not in without}

    def target(self, base: Architecture, shape: InputShape) -> Target:
        """By the factor, or by the factor that meets the budget."""

        def grown(factor: float) -> Architecture:
            if self.axis == "depth":
                return base.deepened(factor)
            return base.widened(factor, "hidden" if self.axis == "hidden" else "width")

        factor = self.factor if self.budget is None else solve(grown, base, shape, self.budget, self.tolerance)
        architecture = grown(factor)
        self.check(base.table(shape), architecture.table(shape))
        return Target(architecture, self.axis, factor)

    def check(self, old: Table, new: Table) -> None:
        """Raise `UndefinedError` where the operator cannot fill this larger network."""
        if new.parameters() == old.parameters():
            raise UndefinedError(f"expansion.factor = {self.factor:g} rounds to the base model's own size; raise it")


def expand(model: nn.Module, expansion: str | Expansion, *, seed: int = 0, **options: Any) -> nn.Module:
    """A larger network grown from `model`, on its device, in its dtype and mode. `model` is left as it is.

    Args:
        model: a network of one of the families in `mmbench.models`.
        expansion: the name of an operator, with its options as keywords, or an operator.
        seed: of all random draws; the global random state is left as it was.
        options: the operator's options, such as `factor=2.0` or `budget=2.0`.

    Raises:
        ConfigError: an unknown operator or option, or a value out of its range.
        UndefinedError: the network is of no known family, or the operator is not defined for it.
    """
    import torch

    if options and not isinstance(expansion, str):
        raise ConfigError(f"an operator has its options already: {', '.join(options)} cannot be given beside it")
    if {"factor", "budget"} <= options.keys():
        raise ConfigError("factor and budget both say how large the network becomes; give one of them")
    operator = EXPANSIONS.create({"name": expansion, **options}) if isinstance(expansion, str) else expansion
    base, shape = architecture_of(model)
    target = operator.target(base, shape).architecture
    old, new = base.table(shape), target.table(shape)
    inserted, source = _sources(operator, base, target, new)
    reference = next(model.parameters())
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach every device, too
        large = target.build(shape).to(reference.dtype)
    growth = Growth(
        small={name: tensor.detach().cpu() for name, tensor in model.state_dict().items()},
        fresh={name: tensor.detach().clone() for name, tensor in large.state_dict().items()},
        old=old,
        new=new,
        source=source,
        silent=frozenset(f"{block}.{name}" for block in inserted for name in target.zero_to_silence),
        generator=torch.Generator().manual_seed(seed),
    )
    large.load_state_dict(operator.fill(growth), strict=True)
    return large.train(model.training).to(reference.device)


def _sources(
    operator: Expansion, base: Architecture, target: Architecture, new: Table
) -> tuple[list[str], dict[str, str | None]]:
    """The inserted blocks, and for each tensor of the larger network the one that it continues."""
    block_source: dict[str, str | None] = {}
    for old_blocks, new_blocks in zip(base.blocks(), target.blocks(), strict=True):
        block_source |= dict(zip(new_blocks, operator.arrange(old_blocks, new_blocks), strict=True))
    source: dict[str, str | None] = {}
    for name in new.tensors:
        block = next((b for b in block_source if name.startswith(f"{b}.")), None)
        if block is None:
            source[name] = name
        else:
            origin = block_source[block]
            source[name] = None if origin is None else origin + name.removeprefix(block)
    return [block for block, origin in block_source.items() if origin is None], source
