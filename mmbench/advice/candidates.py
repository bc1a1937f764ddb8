"""The ways to expand a network to a parameter budget, and what was found out about each."""

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
    """One way to expand the network, and what was found out about it."""

    operator: Expansion
    axis: str
    """The option, as `mmbench.expand` takes it."""
    factor: float
    parameters: int
    model: nn.Module | None = None
    ways: dict[int, Expander] = field(default_factory=dict)
    """To expand networks like the one given, by draw."""
    estimates: dict[str, list[Estimate]] = field(default_factory=dict)
    seconds: float = 0.0
    """Spent on expanding and measuring it."""
    train_seconds: float = math.nan
    """What training it would take, from a few steps."""
    reason: str = ""
    """Why it has no score."""


def find_candidates(
    base: Architecture, shape: InputShape, budget: float, tolerance: float = 0.05, names: Sequence[str] | None = None
) -> tuple[list[Candidate], list[dict[str, str]]]:
    """Every operator along every axis that reaches the budget, and why the others do not."""
    known = [name for name in EXPANSIONS.names() if EXPANSIONS[name].arm == "expansion"]
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise ConfigError(*(unknown_name("expansions", name, known) for name in unknown))
    candidates, left_out = [], []
    for name in names or known:
        for axis in EXPANSIONS[name].axes():
            options = {"name": name, "axis": axis, "budget": float(budget), "tolerance": tolerance}
            try:
                operator = EXPANSIONS.create(options)
                target = operator.target(base, shape)
            except (UndefinedError, ConfigError) as error:
                left_out.append({"expansion": name, "axis": axis, "reason": str(error)})
                continue
            parameters = target.architecture.parameters(shape)
            candidates.append(Candidate(operator, axis, target.factor, parameters))
    return candidates, left_out
