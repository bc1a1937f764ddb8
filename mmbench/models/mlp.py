"""A plain multilayer perceptron with ReLU: flatten, hidden layers, a linear classifier."""

from __future__ import annotations

from collections import OrderedDict
from typing import Annotated, ClassVar, Self

from pydantic import Field, Strict
from torch import nn

from mmbench.data.base import InputShape
from mmbench.models.base import MODELS
from mmbench.models.plain import Plain
from mmbench.models.table import Group, Table, fixed, into, out

Widths = Annotated[
    tuple[Annotated[int, Field(ge=1, le=65536)], ...], Strict(False), Field(min_length=1, max_length=1024)
]


@MODELS.register("mlp")
class MLP(Plain):
    """Hidden layers `fc1`, `fc2`, ... with ReLU, then `head`. Every hidden layer has its own channel group."""

    axes: ClassVar[dict[str, tuple[str, ...]]] = {
        "width": ("hidden",),
        "first": ("hidden",),
        "hidden": ("hidden",),
        "depth": ("hidden",),
    }
    plain: ClassVar[dict[str, str]] = {"hidden": "fc"}

    hidden: Widths = (8, 8)
    """Widths of the hidden layers."""

    def table(self, shape: InputShape) -> Table:
        """One group per hidden layer, `fc1`, `fc2`, ..."""
        table = Table({f"fc{i}": Group(width) for i, width in enumerate(self.hidden, 1)})
        previous = fixed(shape.channels * shape.image_size**2)
        for group in table.groups:
            table.linear(group, out(group), previous)
            previous = into(group)
        table.linear("head", fixed(shape.classes), previous)
        return table

    def build(self, shape: InputShape) -> nn.Module:
        """A `torch.nn.Sequential` (timm has no deep plain MLP)."""
        layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
        previous = shape.channels * shape.image_size**2
        for i, width in enumerate(self.hidden, 1):
            layers[f"fc{i}"] = nn.Linear(previous, width)
            layers[f"act{i}"] = nn.ReLU()
            previous = width
        layers["head"] = nn.Linear(previous, shape.classes)
        return nn.Sequential(layers)

    @classmethod
    def read(cls, model: nn.Module) -> tuple[Self, InputShape] | None:
        """From a Sequential with the names that `build` gives; a square number of inputs is read as a grey image."""
        if not isinstance(model, nn.Sequential):
            return None
        linear = [layer for layer in model if isinstance(layer, nn.Linear)]
        if len(linear) < 2:
            return None
        *hidden, head = linear
        pixels = hidden[0].in_features
        side = round(pixels**0.5)
        # A flattened input has lost its shape; any shape with the same number of entries gives the same network.
        shape = (
            InputShape(1, side, head.out_features) if side**2 == pixels else InputShape(pixels, 1, head.out_features)
        )
        return cls.of({"hidden": tuple(layer.out_features for layer in hidden)}), shape
