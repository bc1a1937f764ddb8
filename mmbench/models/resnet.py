"""Residual networks (He et al., 2016) of timm's basic and bottleneck blocks.

timm's own ResNet begins with a 7x7 convolution of stride 2 and a max-pool, which reduce an 8x8 image to 2x2 pixels.
So the default stem here is a 3x3 convolution (He et al., section 4.2). With `stem=7x7` the network is timm's own.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, Strict, model_validator
from torch import nn

from mmbench.data.base import InputShape
from mmbench.errors import UndefinedError
from mmbench.models.base import MODELS, Architecture
from mmbench.models.base import Sizes as AllSizes
from mmbench.models.parts import class_of, outputs, part
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
    """A 3x3 convolution; or timm's class of four stages, whose 7x7 convolution of stride 2 and max-pool can change."""
    stem_kernel: int | None = Field(None, ge=1, le=31)
    """Side of the stem's convolution; with stem=7x7 only, 7 unless given."""
    stem_stride: int | None = Field(None, ge=1, le=4)
    """Stride of the stem's convolution; with stem=7x7 only, 2 unless given."""
    stem_pool: bool | None = None
    """Whether the stem ends in a max-pool; with stem=7x7 only, true unless given."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for name, sizes in (("layers", self.layers), ("inner", self.inner)):
            if sizes is not None and len(self.channels) != len(sizes):
                raise ValueError(
                    f"model.channels has {len(self.channels)} stages and model.{name} {len(sizes)}; give both the same"
                )
        if self.kernel_size % 2 == 0:
            raise ValueError(f"model.kernel_size = {self.kernel_size} must be odd")
        derived = self._stem()
        if self.stem == "3x3" and any(value not in (None, derived[name]) for name, value in self if name in derived):
            raise ValueError("model.stem_kernel, model.stem_stride and model.stem_pool need model.stem = 7x7")
        if self.stem == "7x7" and (len(self.channels) != 4 or self.channels[0] % 2):
            raise ValueError(
                "model.stem = 7x7 needs four stages, the first with an even number of channels; model.channels = "
                f"{list(self.channels)}"
            )
        return self

    def sizes(self) -> AllSizes:
        """With the inner widths and the stem."""
        given = {name: value for name, value in self if value is not None}
        return {**dict(self), "inner": self.channels, **self._stem(), **given}

    def _stem(self) -> AllSizes:
        """The stem as it is unless its parts are given."""
        large = self.stem == "7x7"
        return {"stem_kernel": 7 if large else 3, "stem_stride": 2 if large else 1, "stem_pool": large}

    @classmethod
    def of(cls, sizes: AllSizes) -> Self:
        """`inner` is left out where it equals `channels`, and so are the usual parts of the stem."""
        derived = {"inner": sizes["channels"], **cls(channels=(2,) * 4, layers=(1,) * 4, stem=sizes["stem"])._stem()}
        return super().of({**sizes, **{name: None for name, value in derived.items() if sizes[name] == value}})

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
        stem = (fixed(self.sizes()["stem_kernel"]),) * 2

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
        if self.stem == "7x7":
            sizes = self.sizes()
            _networks.change_stem(model, sizes["stem_kernel"], sizes["stem_stride"], sizes["stem_pool"])
        for stage, inner in zip(self.blocks(), self.sizes()["inner"], strict=True):
            for block in stage:
                _networks.resize(model.get_submodule(block), inner, self.kernel_size)
        return model

    @classmethod
    def read(cls, model: nn.Module) -> tuple[Self, InputShape] | None:
        """From a `SmallResNet` or timm's `ResNet`; neither depends on the image size, returned as 32 or 224."""
        from timm.models.resnet import ResNet as TimmResNet

        from mmbench.models._networks import SmallResNet

        if not isinstance(model, (SmallResNet, TimmResNet)):
            return None
        small = isinstance(model, SmallResNet)
        names = [f"stages.{s}" for s in range(len(model.stages))] if small else [f"layer{s}" for s in range(1, 5)]
        stages: list[Any] = [part(model, name, "Sequential", "Identity") for name in names]
        first = []
        for name, stage in zip(names, stages, strict=True):
            if not len(list(stage.children())):
                raise UndefinedError(f"module {name!r}, a stage, has no blocks")
            first.append(part(model, f"{name}.0", "BasicBlock", "Bottleneck"))
            for layer in ("conv1", "conv2"):
                part(model, f"{name}.0.{layer}", "Conv2d")
        stem, basic = part(model, "conv1", "Conv2d"), class_of(first[0]) == "BasicBlock"
        if different := [
            name for name, block in zip(names, first, strict=True) if class_of(block) != class_of(first[0])
        ]:
            raise UndefinedError(f"module '{different[0]}.0' is of another kind than '{names[0]}.0'")
        sizes: AllSizes = {
            "block": "basic" if basic else "bottleneck",
            "channels": tuple(_width(block.conv2) if basic else _width(block.conv3) // 4 for block in first),
            "layers": tuple(map(len, stages)),
            "inner": tuple(_width(block.conv1) for block in first),
            "kernel_size": first[0].conv2.kernel_size[0],
            "stem": "3x3" if small else "7x7",
            "stem_kernel": stem.kernel_size[0],
            "stem_stride": stem.stride[0],
            "stem_pool": isinstance(model, TimmResNet) and class_of(model.maxpool) != "Identity",
        }
        if small:  # its stem is what the family says
            sizes |= cls()._stem()
        return cls.of(sizes), InputShape(stem.weight.shape[1], 32 if small else 224, outputs(model, "fc"))


def _width(layer: nn.Module) -> int:
    return int(layer.weight.shape[0])  # type: ignore[index]
