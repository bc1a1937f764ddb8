"""The ways to expand a network to a parameter budget, with their measurements."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import nn

from mmbench.data.base import InputShape
from mmbench.errors import ConfigError, UndefinedError
from mmbench.expansions.apply import Expander
from mmbench.expansions.base import EXPANSIONS, Expansion
from mmbench.metrics.base import Estimate
from mmbench.models.base import Architecture
from mmbench.registry import unknown_name


@dataclass
class Candidate:
    """One way to expand the network, with its measurements."""

    operator: Expansion
    axis: str
    """The axis, as `mmbench.expand` takes it."""
    factor: float
    parameters: int
    model: nn.Module | None = None
    """The expanded network, once it is made."""
    expanders: dict[int, Expander] = field(default_factory=dict)
    """By the number of a random draw: the expander with that draw."""
    estimates: dict[str, list[Estimate]] = field(default_factory=dict)
    """By metric, one estimate per round."""
    seconds: float = 0.0
    """Spent on expanding and measuring it."""
    train_seconds: float = math.nan
    """Estimated duration of its training, from a few steps."""
    reason: str = ""
    """Why it has no score; empty if it has one."""
    allowed: float = 0.0
    """The seconds after which its first measurement was ended; 0 if it was not."""
    same_as: Candidate | None = None
    """The candidate before it that is the same network, bit by bit; this one is not measured then."""

    @property
    def title(self) -> str:
        """Operator and axis."""
        return f"{self.operator.name} {self.axis}"

    @property
    def rounds(self) -> int:
        """How often it has been measured."""
        return len(next(iter(self.estimates.values()), []))


def find_candidates(
    base: Architecture, shape: InputShape, budget: float, tolerance: float = 0.05, names: Sequence[str] | None = None
) -> tuple[list[Candidate], list[dict[str, str]]]:
    """Every operator along every axis that reaches the budget.

    Args:
        base: the architecture of the network to expand.
        shape: its input.
        budget: the target parameter count, as a multiple of the base's.
        tolerance: largest relative deviation from it.
        names: the operators to consider; by default all but the controls.

    Returns:
        The candidates, first one of each operator, then the second of each, and so on: where there is no time for all
        of them, unlike ones are measured. And for each combination that does not fit a dictionary of `expansion`,
        `axis` and `reason`.

    Raises:
        ConfigError: a name is unknown.
    """
    known = [name for name in EXPANSIONS.names() if EXPANSIONS[name].arm == "expansion"]
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise ConfigError(*(unknown_name("expansions", name, known) for name in unknown))
    candidates: list[tuple[int, Candidate]] = []
    left_out = []
    for name in dict.fromkeys(names or known):
        place = 0
        for axis in EXPANSIONS[name].axes():
            options = {"name": name, "axis": axis, "budget": float(budget), "tolerance": tolerance}
            try:
                operator = EXPANSIONS.create(options)
                target = operator.target(base, shape)
            except (UndefinedError, ConfigError) as error:
                left_out.append({"expansion": name, "axis": axis, "reason": str(error)})
                continue
            parameters = target.architecture.parameters(shape)
            candidates.append((place, Candidate(operator, axis, target.factor, parameters)))
            place += 1
    return [candidate for _, candidate in sorted(candidates, key=lambda placed: placed[0])], left_out
