"""ConvNeXt (Liu et al., 2022): timm's `ConvNeXt`; patches of one pixel suit images of 8 to 32 pixels."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field, Strict, model_validator
from torch import nn

from mmbench.data.base import InputShape
from mmbench.errors import UndefinedError
from mmbench.models.base import MODELS, Architecture, Sizes
from mmbench.models.parts import eps_of, outputs, part
from mmbench.models.table import Group, Table, fixed, into, out, taps

Four = Annotated[tuple[Annotated[int, Field(ge=1, le=16384)], ...], Strict(False), Field(min_length=4, max_length=4)]


@MODELS.register("convnext")
class ConvNeXt(Architecture):
    """A patch stem and four stages of blocks: depthwise convolution, LayerNorm, MLP, layer scale.

    Channel groups: one stream per stage, which every LayerNorm of the stage normalises, and the hidden units of each
    block's MLP. A depthwise convolution has one filter per channel of the stream.
    """

    axes: ClassVar[dict[str, tuple[str, ...]]] = {
        "width": ("channels", "hidden"),
        "stream": ("channels",),
        "hidden": ("hidden",),
        "depth": ("layers",),
        "kernel": ("kernel_size",),
    }

    channels: Four = (8, 16, 32, 64)
    """Channels per stage."""
    layers: Four = (1, 1, 1, 1)
    """Blocks per stage."""
    hidden: Four | None = None
    """Hidden units of the MLPs of each stage; four times `channels` unless given."""
    kernel_size: int = Field(7, ge=1, le=63)
    """Side of the depthwise convolutions; odd."""
    patch_size: int = Field(1, ge=1, le=4)
    """Side of the stem's patches in pixels. Every stage after the first halves the image; for patch_size=2 the first
    does, too."""
    layer_scale: bool = True
    """A learned scale per channel on each residual branch."""
    conv_mlp: bool = False
    """Whether the MLPs are 1x1 convolutions instead of linear layers; the same function."""
    eps: float = Field(1e-6, gt=0, le=0.1)
    """Epsilon of every LayerNorm."""

    @model_validator(mode="after")
    def _kernel_is_odd(self) -> Self:
        if self.kernel_size % 2 == 0:
            raise ValueError(f"model.kernel_size = {self.kernel_size} must be odd")
        return self

    def sizes(self) -> Sizes:
        """With the hidden units as numbers."""
        return {**dict(self), "hidden": self.hidden or tuple(4 * width for width in self.channels)}

    @classmethod
    def of(cls, sizes: Sizes) -> Self:
        """`hidden` is None if it is four times `channels`."""
        follows = sizes["hidden"] == tuple(4 * width for width in sizes["channels"])
        return super().of({**sizes, "hidden": None if follows else sizes["hidden"]})

    def blocks(self) -> list[list[str]]:
        """`stages.S.blocks.B` per stage."""
        return [[f"stages.{s}.blocks.{b}" for b in range(count)] for s, count in enumerate(self.layers)]

    def silencers(self) -> tuple[str, ...]:
        """The layer scale or, without one, the MLP's last layer."""
        return ("gamma",) if self.layer_scale else ("mlp.fc2.weight", "mlp.fc2.bias")

    def table(self, shape: InputShape) -> Table:
        """Groups `stage0` to `stage3` and `stages.S.blocks.B.hidden`."""
        halvings = 4 if self.patch_size == 2 else 3
        if shape.image_size // self.patch_size < 2**halvings:
            raise UndefinedError(
                f"images of {shape.image_size} pixels are too small for model.patch_size = {self.patch_size}: "
                f"{halvings} halvings follow; at least {self.patch_size * 2**halvings} pixels are needed"
            )
        table, patch, taps_ = Table(), fixed(self.patch_size), taps(self.kernel_size)
        pixel = (fixed(1), fixed(1)) if self.conv_mlp else ()
        table.linear("stem.0", out("stage0"), fixed(shape.channels), patch, patch)
        table.norm("stem.1", out("stage0"))
        for s, (stage, hidden) in enumerate(zip(self.blocks(), self.sizes()["hidden"], strict=True)):
            stream = f"stage{s}"
            table.groups[stream] = Group(self.channels[s], "LayerNorm")
            if s or self.patch_size == 2:
                previous = f"stage{s - 1}" if s else stream
                table.norm(f"stages.{s}.downsample.0", out(previous))
                table.linear(f"stages.{s}.downsample.1", out(stream), into(previous), fixed(2), fixed(2))
            for block in stage:
                units = f"{block}.hidden"
                table.groups[units] = Group(hidden)
                table.linear(f"{block}.conv_dw", out(stream), fixed(1), taps_, taps_)
                table.norm(f"{block}.norm", out(stream))
                table.linear(f"{block}.mlp.fc1", out(units), into(stream), *pixel)
                table.linear(f"{block}.mlp.fc2", out(stream), into(units), *pixel)
                if self.layer_scale:
                    table.add(f"{block}.gamma", out(stream))
        table.norm("head.norm", out("stage3"))
        table.linear("head.fc", fixed(shape.classes), into("stage3"))
        return table

    def build(self, shape: InputShape) -> nn.Module:
        """timm's class, without stochastic depth."""
        self.table(shape)  # raises if the images are too small
        from timm.layers import Mlp
        from timm.models.convnext import ConvNeXt as TimmConvNeXt

        model = TimmConvNeXt(
            in_chans=shape.channels,
            num_classes=shape.classes,
            depths=self.layers,
            dims=self.channels,
            kernel_sizes=self.kernel_size,
            ls_init_value=1e-6 if self.layer_scale else None,
            patch_size=self.patch_size,
            conv_mlp=self.conv_mlp,
            norm_eps=self.eps,
        )
        if self.hidden is not None:  # timm's class has no option for it, but its MLP has
            for s, stage in enumerate(model.stages):
                for block in stage.blocks:
                    block.mlp = Mlp(self.channels[s], self.hidden[s], use_conv=self.conv_mlp)
                    for layer in (block.mlp.fc1, block.mlp.fc2):
                        nn.init.trunc_normal_(layer.weight, std=0.02)
                        nn.init.zeros_(layer.bias)
        return model

    @classmethod
    def read(cls, model: nn.Module) -> tuple[Self, InputShape] | None:
        """From a timm `ConvNeXt`; it does not depend on the image size, which is returned as 32 patches per side."""
        from timm.models.convnext import ConvNeXt as TimmConvNeXt

        if not isinstance(model, TimmConvNeXt):
            return None
        if len(part(model, "stem", "Sequential")) != 2:
            raise UndefinedError(f"module 'stem' has {len(model.stem)} layers, expected a patch convolution and a norm")
        stem, first = part(model, "stem.0", "Conv2d"), []
        for s in range(len(model.stages)):
            if not len(part(model, f"stages.{s}", "ConvNeXtStage").blocks):
                raise UndefinedError(f"module 'stages.{s}', a stage, has no blocks")
            first.append(part(model, f"stages.{s}.blocks.0", "ConvNeXtBlock"))
            part(model, f"stages.{s}.blocks.0.conv_dw", "Conv2d")
            part(model, f"stages.{s}.blocks.0.mlp", "Mlp")
        sizes = {
            "channels": tuple(block.conv_dw.weight.shape[0] for block in first),
            "layers": tuple(len(stage.blocks) for stage in model.stages),
            "hidden": tuple(block.mlp.fc1.weight.shape[0] for block in first),
            "kernel_size": first[0].conv_dw.kernel_size[0],
            "patch_size": stem.kernel_size[0],
            "layer_scale": first[0].gamma is not None,
            "conv_mlp": first[0].use_conv_mlp,
            "eps": eps_of(model, "stem.1", "LayerNorm2d"),
        }
        shape = InputShape(stem.weight.shape[1], 32 * stem.kernel_size[0], outputs(model, "head.fc"))
        return cls.of(sizes), shape
