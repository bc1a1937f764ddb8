"""Residual networks (He et al., 2016) of timm's basic and bottleneck blocks.

timm's own ResNet begins with a 7x7 convolution of stride 2 and a max-pool, which reduce an 8x8 image to 2x2 pixels.
So the default stem here is a 3x3 convolution (He et al., section 4.2). With `stem=7x7` the network is timm's own.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, Strict, model_validator
from torch import nn

from mmbench.data.base import InputShape
from mmbench.models.base import MODELS, Architecture
from mmbench.models.base import Sizes as AllSizes
from mmbench.models.table import Group, Table, fixed, into, out, taps

Sizes = Annotated[tuple[Annotated[int, Field(ge=1, le=16384)], ...], Strict(False), Field(min_length=1, max_length=6)]


@MODELS.register("resnet")
class ResNet(Architecture):
    """Stem, stages of residual blocks (every stage after the first halves the image), average pooling, a classifier.

    Channel groups: one residual stream per stage (the stem writes into the first; before bottlenecks it has its own
    group), and the inner widths of each block. The axis `first` is the first stage's stream, stem included; the axis
    `convolutions` is every convolution, as `width`.
    """

    axes: ClassVar[dict[str, tuple[str, ...]]] = {
        "width": ("channels", "inner"),
        "first": ("channels",),
        "convolutions": ("channels", "inner"),
        "stream": ("channels",),
        "hidden": ("inner",),
        "depth": ("layers",),
        "kernel": ("kernel_size",),
    }

    block: Literal["basic", "bottleneck"] = "basic"
    """Two 3x3 convolutions; or 1x1, 3x3, 1x1, with a stream of four times `channels`."""
    channels: Sizes = (8, 16, 32)
    """Channels per stage."""
    layers: Sizes = (1, 1, 1)
    """Blocks per stage."""
    inner: Sizes | None = None
    """Inner width of the blocks of each stage; equal to `channels` unless given."""
    kernel_size: int = Field(3, ge=1, le=31)
    """Side of the blocks' 3x3 convolutions; odd."""
    stem: Literal["3x3", "7x7"] = "3x3"
    """A 3x3 convolution; or timm's 7x7 convolution of stride 2 and max-pool, for four stages."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for name, sizes in (("layers", self.layers), ("inner", self.inner)):
            if sizes is not None and len(self.channels) != len(sizes):
                raise ValueError(
                    f"model.channels has {len(self.channels)} stages and model.{name} {len(sizes)}; give both the same"
                )
        if self.kernel_size % 2 == 0:
            raise ValueError(f"model.kernel_size = {self.kernel_size} must be odd")
        if self.stem == "7x7" and (len(self.channels) != 4 or self.channels[0] % 2):
            raise ValueError(
                "model.stem = 7x7 needs four stages, the first with an even number of channels; model.channels = "
                f"{list(self.channels)}"
            )
        return self

    def sizes(self) -> AllSizes:
        """With the inner widths as numbers."""
        return {**dict(self), "inner": self.inner or self.channels}

    @classmethod
    def of(cls, sizes: AllSizes) -> Self:
        """`inner` is left out where it equals `channels`."""
        return super().of({**sizes, "inner": None if sizes["inner"] == sizes["channels"] else sizes["inner"]})

    def unit(self, name: str) -> int:
        """timm's wide stem has an even number of channels."""
        return 2 if self.stem == "7x7" and name == "channels" else super().unit(name)

    def blocks(self) -> list[list[str]]:
        """`stages.S.B` per stage, or `layerS.B` in timm's class."""
        stage = "stages.{}" if self.stem == "3x3" else "layer{}"
        first = 0 if self.stem == "3x3" else 1
        return [[f"{stage.format(s)}.{b}" for b in range(count)] for s, count in enumerate(self.layers, first)]

    def silencers(self) -> tuple[str, ...]:
        """The scale and shift of each block's last batch norm."""
        last = "bn2" if self.block == "basic" else "bn3"
        return f"{last}.weight", f"{last}.bias"

    def table(self, shape: InputShape) -> Table:
        """Streams `stage0`, `stage1`, ... (and `stem` before bottlenecks); inner groups `BLOCK.1` and `BLOCK.2`."""
        table, basic = Table(), self.block == "basic"
        square = taps(self.kernel_size), taps(self.kernel_size)
        pixel = fixed(1), fixed(1)
        stem = fixed(int(self.stem[0])), fixed(int(self.stem[0]))

        previous = "stage0" if basic else "stem"
        table.groups[previous] = Group(self.channels[0])
        table.linear("conv1", out(previous), fixed(shape.channels), *stem, bias=False)
        table.norm("bn1", out(previous), batch_statistics=True)
        for s, (stage, inner) in enumerate(zip(self.blocks(), self.sizes()["inner"], strict=True)):
            stream = f"stage{s}"
            table.groups[stream] = Group(self.channels[s] * (1 if basic else 4))
            for b, block in enumerate(stage):
                inside = [f"{block}.1"] if basic else [f"{block}.1", f"{block}.2"]
                table.groups |= {group: Group(inner) for group in inside}
                chain = [previous, *inside, stream]
                kernels = [square, square] if basic else [pixel, square, pixel]
                layers = [
                    (f"{block}.conv{i}", f"{block}.bn{i}", chain[i], chain[i - 1], kernel)
                    for i, kernel in enumerate(kernels, 1)
                ]
                if not b and (s or not basic):
                    layers.append((f"{block}.downsample.0", f"{block}.downsample.1", stream, previous, pixel))
                for convolution, norm, rows, columns, kernel in layers:
                    table.linear(convolution, out(rows), into(columns), *kernel, bias=False)
                    table.norm(norm, out(rows), batch_statistics=True)
                previous = stream
        table.linear("fc", fixed(shape.classes), into(previous))
        return table

    def build(self, shape: InputShape) -> nn.Module:
        """A `SmallResNet`, or timm's `ResNet`."""
        from mmbench.models import _networks

        make = _networks.SmallResNet if self.stem == "3x3" else _networks.timm_resnet
        model = make(self.block, shape.channels, shape.classes, self.channels, self.layers)
        for stage, inner in zip(self.blocks(), self.sizes()["inner"], strict=True):
            for block in stage:
                _networks.resize(model.get_submodule(block), inner, self.kernel_size)
        return model

    @classmethod
    def read(cls, model: nn.Module) -> tuple[Self, InputShape] | None:
        """From a `SmallResNet` or timm's `ResNet`; neither depends on the image size, returned as 32 or 224."""
        from timm.models.resnet import ResNet as TimmResNet

        from mmbench.models._networks import SmallResNet

        stages: list[Any]
        if isinstance(model, SmallResNet):
            small, stages = True, [*model.stages]
        elif isinstance(model, TimmResNet):
            small, stages = False, [model.layer1, model.layer2, model.layer3, model.layer4]
        else:
            return None
        if not all(map(len, stages)):
            raise ValueError("a stage has no blocks")
        if not hasattr(model.conv1, "in_channels"):
            raise ValueError(f"module 'conv1', its stem, is a {type(model.conv1).__name__}, expected one convolution")
        first = [stage[0] for stage in stages]
        basic = not hasattr(first[0], "conv3")
        sizes = cls.of(
            {
                "block": "basic" if basic else "bottleneck",
                "channels": tuple(b.conv2.out_channels if basic else b.conv3.out_channels // 4 for b in first),
                "layers": tuple(map(len, stages)),
                "inner": tuple(block.conv1.out_channels for block in first),
                "kernel_size": first[0].conv2.kernel_size[0],
                "stem": "3x3" if small else "7x7",
            }
        )
        classes: Any = model.fc.out_features if small else model.num_classes
        return sizes, InputShape(model.conv1.in_channels, 32 if small else 224, classes)
