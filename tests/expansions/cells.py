"""All (operator, options, network) that the tests go through; a new operator or family joins with its defaults."""

from __future__ import annotations

from typing import Any

from mmbench.expansions.base import EXPANSIONS
from mmbench.testing.cells import FAMILIES, Cell, axes_of
from mmbench.testing.models import NETWORKS

OPERATORS = EXPANSIONS.names()
EQUAL = {"split": "equal", "allow_symmetric": True}
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "net2wider": [
        {"factor": 1.5},
        {"factor": 3.0},
        {"axis": "hidden", "factor": 1.7},
        {"axis": "heads", "factor": 1.5},
        {"axis": "head_dim", "factor": 3.0},
        {"split": "unequal", "factor": 2.5},
        {"split": "unequal", "axis": "hidden", "factor": 1.7},
        {"split": "paired", "factor": 3.0},
        {"split": "paired", "axis": "hidden", "factor": 1.7},
        {**EQUAL, "factor": 3.0},
    ],
    "hypercloning": [
        {"factor": 3.0},
        {"axis": "head_dim", "factor": 3.0},
        {"snr_db": 0.0},
        {"snr_db": None, "allow_symmetric": True},
    ],
    "lemon": [
        {"factor": 1.5},
        {"factor": 3.0},
        {"axis": "stream", "factor": 1.5},
        {"axis": "stream", "factor": 2.7},
        {"axis": "hidden", "factor": 1.7},
        {"axis": "heads", "factor": 1.5},
    ],
    "bert2bert_aki": [{"factor": 3.0}, {"axis": "hidden", "factor": 1.5}],
    "zero_pad": [{"factor": 1.5}, {"axis": "hidden", "factor": 1.5}, {"axis": "heads", "factor": 1.5}],
    "random_pad": [{"factor": 1.5}],
    "gradmax": [{"factor": 1.5}, {"factor": 3.0}, {"images": 5}],
    "kernel_pad": [{"factor": 3.0}],
    "identity_block": [
        {"content": "copy"},
        {"content": "copy", "position": "top", "factor": 3.0},
        {"factor": 2.5},
        {"factor": 6.0, "position": "top"},
    ],
    "net2deeper": [{"factor": 1.5}, {"factor": 3.0}],
    "stack": [{"factor": 3.0}],
    "interpolate": [{"factor": 3.0}],
    "width_then_depth": [
        {"factor": 1.5, "depth_factor": 3.0},
        {"width": "hypercloning"},
        {"width": "zero_pad", "axis": "hidden"},
        {"width": "lemon", "factor": 1.5},
        {"depth": "net2deeper"},
        {"depth": "net2deeper", "width": "zero_pad"},
    ],
}
"""Options of an operator to try beside its defaults and each of its axes."""
QUICK = {"ligo": {"learning_steps": 2}}


def options_on(operator: str, name: str) -> list[dict[str, Any]]:
    """The options to try on a network; fewer where the operator makes no claim that another network could break."""
    if name in FAMILIES:
        return [*axes_of(operator), *VARIANTS.get(operator, [])]
    if EXPANSIONS[operator].preserves == "exact":
        return axes_of(operator)
    # bert2bert_aki and the depth operators need blocks of equal shape, which the small network of a family may lack
    wants_blocks = operator == "bert2bert_aki" or "depth" in EXPANSIONS[operator].axes()
    return axes_of(operator) if wants_blocks and name in BLOCKS else [{}]


BLOCKS = ("mlp of equal layers", "resnet of more blocks")
CELLS = [
    Cell(operator, options, name, QUICK.get(operator, {}))
    for operator in OPERATORS
    for name in NETWORKS
    for options in options_on(operator, name)
] + [
    *(
        Cell("lemon", {"axis": axis, "factor": 1.5}, name)
        for axis in ("width", "stream")
        for name in ("vit with options", "vit of other biases")
    ),
    Cell("identity_block", {"content": "copy"}, "vit with options"),
    Cell("identity_block", {"content": "copy"}, "resnet of bottlenecks"),
    Cell("identity_block", {"content": "copy"}, "convnext without layer scale"),
]
DEFINED = [cell for cell in CELLS if cell.is_defined()]
EXACT = [cell for cell in DEFINED if EXPANSIONS[cell.operator].preserves == "exact"]
DEFAULTS = sorted(
    {(cell.operator, cell.family): cell for cell in reversed(DEFINED)}.values(),
    key=DEFINED.index,
)
"""For each operator and family the first that is defined: the small network and the default axis where they are."""
