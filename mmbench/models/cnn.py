"""A plain convolutional network: convolutions with ReLU, max-pools between them, fully connected layers.

It is the network of the paper (Malviya et al., 2025): C(8) - C(32) - MaxPool2 - F(256) - classes, with biases and
without norms. The padding keeps the size of the image; each pool halves it, rounded down.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Self

from pydantic import Field, Strict, model_validator
from torch import nn

from mmbench.data.base import InputShape
from mmbench.errors import UndefinedError
from mmbench.models.base import MODELS, Architecture
from mmbench.models.plain import Plain, origins
from mmbench.models.table import Axis, Group, Table, fixed, into, out, taps

Counts = Annotated[tuple[Annotated[int, Field(ge=1, le=65536)], ...], Strict(False), Field(max_length=1024)]


@MODELS.register("cnn")
class CNN(Plain):
    """Convolutions `conv1`, `conv2`, ..., hidden layers `fc1`, ..., then `head`; each has its own channel group.

    The layer after the last convolution reads every pixel of each of its channels.
    """

    axes: ClassVar[dict[str, tuple[str, ...]]] = {
        "width": ("channels", "hidden"),
        "first": ("channels",),
        "convolutions": ("channels",),
        "hidden": ("hidden",),
        "depth": ("channels",),
        "kernel": ("kernel_size",),
    }
    plain: ClassVar[dict[str, str]] = {"channels": "conv", "hidden": "fc"}
    placed: ClassVar[tuple[str, ...]] = ("pools",)

    channels: Annotated[Counts, Field(min_length=1)] = (8, 32)
    """Channels of each convolution."""
    pools: Counts = (2,)
    """The convolutions, counted from 1, that a 2x2 max-pool follows."""
    hidden: Counts = (256,)
    """Widths of the fully connected layers before the classifier."""
    kernel_size: int = Field(3, ge=1, le=31)
    """Side of the convolutions; odd."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.kernel_size % 2 == 0:
            raise ValueError(f"model.kernel_size = {self.kernel_size} must be odd")
        if list(self.pools) != sorted({*self.pools}) or max(self.pools, default=0) > len(self.channels):
            raise ValueError(
                f"model.pools = {list(self.pools)} must be ascending numbers from 1 to {len(self.channels)}, the "
                "number of model.channels"
            )
        return self

    def _fields(self, axis: str) -> tuple[str, ...]:
        if axis == "hidden" and not self.hidden:
            raise UndefinedError("model.hidden = [] has no layers that could grow along expansion.axis = hidden")
        return super()._fields(axis)

    def rearranged(self, name: str, widths: tuple[int, ...], places: Sequence[int | None]) -> Self:
        """The architecture with other layers; a pool stays before the old convolution that it precedes now.

        Args:
            name: the size that holds the layers' widths.
            widths: of all layers.
            places: for each layer the old one, from 0; None for a new layer.

        Returns:
            The architecture.
        """
        sizes = {**self.sizes(), name: widths}
        if name == "channels":
            last = {origin + 1: place for place, origin in enumerate(origins(places), 1)}
            sizes["pools"] = tuple(last[pool] for pool in self.pools)
        return self.of(sizes)

    def not_inherited(self, target: Architecture, arrangement: Mapping[str, str | None], exactly: bool) -> str:
        """Why pools that stand elsewhere prevent it.

        Args:
            target: the larger architecture.
            arrangement: for each of its layers the one of this network that it continues; None for a new one.
            exactly: whether every old layer must see the same image size.

        Returns:
            The reason, as a clause; empty if there is none.
        """
        pools = target.sizes()["pools"]
        reason = (
            f"with pools after the convolutions {[*pools]} instead of {[*self.pools]} the old layers see other image "
            f"sizes, so {'the function changes' if exactly else 'weights do not fit'}; leave expansion.to.pools out, "
            "or use expansion=scratch"
        )
        if len(pools) != len(self.pools):
            return reason
        (old, _), (new, _) = self.blocks(), target.blocks()
        places = [None if (origin := arrangement[layer]) is None else old.index(origin) for layer in new]
        before = origins(places)
        return reason if exactly and [before[pool - 1] + 1 for pool in pools] != [*self.pools] else ""

    def side(self, shape: InputShape) -> int:
        """Height and width of the last convolution's output after its pool; `UndefinedError` if nothing is left."""
        side = shape.image_size >> len(self.pools)
        if not side:
            raise UndefinedError(
                f"images of {shape.image_size} pixels are too small for model.pools = {list(self.pools)}: "
                f"{len(self.pools)} halvings need at least {2 ** len(self.pools)} pixels"
            )
        return side

    def table(self, shape: InputShape) -> Table:
        """Groups `conv1`, ..., `fc1`, ...; the columns after the last convolution are its channels times the pixels."""
        pixels, square = self.side(shape) ** 2, (taps(self.kernel_size), taps(self.kernel_size))
        (convolutions, hidden), table = self.blocks(), Table()
        previous = fixed(shape.channels)
        for layers, widths, kernel in ((convolutions, self.channels, square), (hidden, self.hidden, ())):
            for layer, width in zip(layers, widths, strict=True):
                table.groups[layer] = Group(width)
                table.linear(layer, out(layer), previous, *kernel)
                previous = into(layer)
            if kernel:
                previous = Axis("in", (convolutions[-1], pixels))
        table.linear("head", fixed(shape.classes), previous)
        return table

    def build(self, shape: InputShape) -> nn.Module:
        """A `torch.nn.Sequential` of `conv1`, `act1`, perhaps `pool1`, ..., `flatten`, `fc1`, ..., `head`."""
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        previous = shape.channels
        for i, width in enumerate(self.channels, 1):
            layers[f"conv{i}"] = nn.Conv2d(previous, width, self.kernel_size, padding=self.kernel_size // 2)
            layers[f"act{i}"] = nn.ReLU()
            if i in self.pools:
                layers[f"pool{i}"] = nn.MaxPool2d(2)
            previous = width
        layers["flatten"] = nn.Flatten()
        previous *= self.side(shape) ** 2
        for i, width in enumerate(self.hidden, 1):
            layers[f"fc{i}"] = nn.Linear(previous, width)
            layers[f"act{len(self.channels) + i}"] = nn.ReLU()
            previous = width
        layers["head"] = nn.Linear(previous, shape.classes)
        return nn.Sequential(layers)

    @classmethod
    def read(cls, model: nn.Module) -> tuple[Self, InputShape] | None:
        """From a Sequential with the names that `build` gives; the image is the smallest that the pools leave whole."""
        if not isinstance(model, nn.Sequential):
            return None
        convolutions, pools, linear = [], [], []
        for layer in model:
            if isinstance(layer, nn.Conv2d):
                convolutions.append(layer)
            elif isinstance(layer, nn.MaxPool2d):
                pools.append(len(convolutions))
            elif isinstance(layer, nn.Linear):
                linear.append(layer)
        if not convolutions or not linear:
            return None
        pixels, rest = divmod(linear[0].in_features, convolutions[-1].out_channels)
        side = math.isqrt(pixels)
        if rest or side**2 != pixels:
            raise ValueError(
                f"its first linear layer reads {linear[0].in_features} inputs, which are no square of pixels for each "
                f"of {convolutions[-1].out_channels} channels"
            )
        sizes = {
            "channels": tuple(layer.out_channels for layer in convolutions),
            "pools": tuple(pools),
            "hidden": tuple(layer.out_features for layer in linear[:-1]),
            "kernel_size": convolutions[0].kernel_size[0],
        }
        shape = InputShape(convolutions[0].in_channels, side << len(pools), linear[-1].out_features)
        return cls.of(sizes), shape
