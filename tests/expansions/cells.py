"""All (operator, options, network) that the tests go through; a new operator or family joins with its defaults."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mmbench.errors import UndefinedError
from mmbench.expansions.apply import expand
from mmbench.expansions.base import EXPANSIONS, Target
from mmbench.models.base import Architecture
from tests.models.networks import FAMILIES, SHAPE, images, network, small

OPERATORS = EXPANSIONS.names()
NETWORKS: dict[str, Architecture] = {
    **{family: small(family) for family in FAMILIES},
    "mlp of equal layers": type(small("mlp"))(hidden=(8, 8, 8)),
    "resnet of more blocks": type(small("resnet"))(channels=(3, 4), layers=(2, 3)),
    "resnet of bottlenecks": type(small("resnet"))(block="bottleneck", channels=(2, 3), layers=(1, 3), inner=(3, 4)),
    "convnext without layer scale": small("convnext").of(
        {**small("convnext").sizes(), "layer_scale": False, "conv_mlp": True}
    ),
    "vit with options": small("vit").of(
        {**small("vit").sizes(), "head_dim": 4, "layer_scale": True, "registers": 2, "pool": "avg"}
    ),
    "vit of other biases": small("vit").of({**small("vit").sizes(), "qkv_bias": False, "eps": 0.05}),
}
"""The families' small networks and, by name, others that these leave something out of."""

EQUAL_BLOCKS: dict[str, dict[str, Any]] = {
    "mlp": {"hidden": (8, 8, 8)},
    "resnet": {"layers": (2, 3, 3)},
    "convnext": {"layers": (2, 2, 2, 2)},
}
"""Options of a family's default network with blocks that can be repeated, where it has too few."""

EQUAL = {"split": "equal", "allow_symmetric": True}
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "net2wider": [
        {"factor": 1.5},
        {"factor": 3.0},
        {"axis": "hidden", "factor": 1.7},
        {"axis": "heads", "factor": 1.5},
        {"axis": "head_dim", "factor": 3.0},
        {"split": "unequal"},
        {"split": "unequal", "factor": 2.5},
        {"split": "unequal", "axis": "hidden", "factor": 1.7},
        {"split": "paired"},
        {"split": "paired", "factor": 3.0},
        {"split": "paired", "axis": "hidden", "factor": 1.7},
        EQUAL,
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
        {"position": "top"},
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
QUICKLY = {"ligo": {"learning_steps": 2}}


class Cell(NamedTuple):
    """One operator with its options on one of the networks."""

    operator: str
    options: dict[str, Any]
    network: str

    def __str__(self) -> str:
        """As the test's id."""
        options = "".join(f" {key}={value}" for key, value in self.options.items())
        return f"{self.operator}{options} on {self.network}"

    @property
    def family(self) -> str:
        """The network's."""
        return self.architecture.name

    @property
    def architecture(self) -> Architecture:
        """The network's sizes."""
        return NETWORKS[self.network]

    @property
    def preserves(self) -> str:
        """What the operator claims."""
        return EXPANSIONS[self.operator].preserves

    def base(self, dtype: torch.dtype = torch.float64) -> nn.Module:
        """The small network, weights of order one."""
        return network(self.architecture, dtype)

    def target(self) -> Target:
        """The larger architecture, or `UndefinedError`."""
        return EXPANSIONS[self.operator](**self.options).target(self.architecture, SHAPE)

    def expand(self, model: nn.Module | None = None, seed: int = 0, **options: Any) -> nn.Module:
        """The larger network, grown from the small one unless another is given."""
        model = self.base() if model is None else model
        options = {**QUICKLY.get(self.operator, {}), **self.options, **options}
        return expand(model, self.operator, data=examples(), seed=seed, **options)


@cache
def examples() -> tuple[Tensor, Tensor]:
    """Images and labels with something to learn: the brightest of three parts of the first channel."""
    x = images(count=48, seed=5)
    return x, torch.stack([part.mean((1, 2)) for part in x[:, 0].chunk(SHAPE.classes, dim=1)]).argmax(0)


def axes_of(operator: str) -> list[dict[str, Any]]:
    """The operator's defaults, and each of its other axes."""
    cls = EXPANSIONS[operator]
    return [{}, *({"axis": axis} for axis in cls.axes() if axis != cls().axis)]


def is_defined(cell: Cell) -> bool:
    """Whether the operator leads anywhere."""
    try:
        cell.target()
    except UndefinedError:
        return False
    return True


CELLS = [
    Cell(operator, options, name)
    for operator in OPERATORS
    for name in NETWORKS
    for options in [*axes_of(operator), *(VARIANTS.get(operator, []) if name in FAMILIES else [])]
] + [
    *(
        Cell("lemon", {"axis": axis, "factor": 1.5}, name)
        for axis in ("width", "stream")
        for name in list(NETWORKS)[-2:]
    ),
    Cell("identity_block", {"content": "copy"}, "vit with options"),
    Cell("identity_block", {"content": "copy"}, "resnet of bottlenecks"),
    Cell("identity_block", {"content": "copy"}, "convnext without layer scale"),
]
DEFINED = [cell for cell in CELLS if is_defined(cell)]
EXACT = [cell for cell in DEFINED if cell.preserves == "exact"]
INEXACT = [cell for cell in DEFINED if cell.preserves != "exact"]
FIRST = {(cell.operator, cell.family): cell for cell in reversed(DEFINED)}
"""For each operator and family the first that is defined: the small network and the default axis where they are."""
DEFAULTS = sorted(FIRST.values(), key=DEFINED.index)
