"""All (operator, options, family) that the tests go through; a new operator or family joins with its defaults."""

from __future__ import annotations

from typing import Any, NamedTuple

from models.networks import FAMILIES, SHAPE, network, small
from torch import nn

from mmbench.errors import UndefinedError
from mmbench.expansions.base import Target, expand
from mmbench.registry import EXPANSIONS

OPERATORS = EXPANSIONS.names()
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "net2wider": [
        {},
        {"axis": "hidden"},
        {"factor": 1.5},
        {"factor": 3.0},
        {"split": "unequal"},
        {"split": "unequal", "factor": 2.5},
        {"split": "unequal", "axis": "hidden", "factor": 1.7},
        {"split": "equal", "allow_symmetric": True},
        {"split": "equal", "allow_symmetric": True, "factor": 3.0},
    ],
    "zero_pad": [{}, {"axis": "hidden"}, {"factor": 1.5}],
    "random_pad": [{}, {"axis": "hidden"}, {"factor": 1.5}],
    "scratch": [{}, {"axis": "hidden"}, {"axis": "depth"}],
    "identity_block": [{}, {"position": "top"}, {"factor": 2.5}, {"factor": 6.0, "position": "top"}],
}


class Cell(NamedTuple):
    """One operator with its options on the small network of one family."""

    operator: str
    options: dict[str, Any]
    family: str

    def __str__(self) -> str:
        """As the test's id."""
        options = "".join(f" {key}={value}" for key, value in self.options.items())
        return f"{self.operator}{options} on {self.family}"

    @property
    def preserves(self) -> str:
        """What the operator claims."""
        return EXPANSIONS[self.operator].preserves

    def target(self) -> Target:
        """The larger architecture, or `UndefinedError`."""
        return EXPANSIONS[self.operator](**self.options).target(small(self.family), SHAPE)

    def expand(self, model: nn.Module | None = None, seed: int = 0) -> nn.Module:
        """The larger network, grown from the family's small network unless another is given."""
        return expand(network(small(self.family)) if model is None else model, self.operator, seed=seed, **self.options)


def _defined(cell: Cell) -> bool:
    try:
        cell.target()
    except UndefinedError:
        return False
    return True


CELLS = [
    Cell(operator, options, family)
    for operator in OPERATORS
    for options in VARIANTS.get(operator, [{}])
    for family in FAMILIES
]
DEFINED = [cell for cell in CELLS if _defined(cell)]
EXACT = [cell for cell in DEFINED if cell.preserves == "exact"]
INEXACT = [cell for cell in DEFINED if cell.preserves != "exact"]
DEFAULTS = [cell for cell in DEFINED if not cell.options]
