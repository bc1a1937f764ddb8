"""A residual network for 8 to 32 pixel images (He et al., 2016, section 4.2), of timm's basic blocks.

timm's own ResNet begins with a 7x7 stride-2 convolution of 64 channels and a max-pool, which leaves nothing of an 8x8
image; so the stem here is a thin 3x3 convolution, and the stages are timm's `BasicBlock`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import Field, Strict, model_validator

from mmbench.data.base import InputShape
from mmbench.errors import UndefinedError
from mmbench.models.base import Architecture, Group, Table, WidthAxis, fixed, into, out, scaled
from mmbench.registry import MODELS

if TYPE_CHECKING:
    from torch import nn

Sizes = Annotated[tuple[Annotated[int, Field(ge=1, le=8192)], ...], Strict(False), Field(min_length=1, max_length=6)]


@MODELS.register("resnet")
class ResNet(Architecture):
    """3x3 stem, stages of basic blocks (each later stage halves the image), average pooling, a linear classifier.

    Channel groups: one residual stream per stage (the stem writes into the first) and one inner width per block.
    """

    imports: ClassVar[tuple[str, ...]] = ("mmbench.models._networks",)
    zero_to_silence: ClassVar[tuple[str, ...]] = ("bn2.weight", "bn2.bias")

    channels: Sizes = (8, 16, 32)
    """Channels per stage."""
    layers: Sizes = (1, 1, 1)
    """Blocks per stage."""

    @model_validator(mode="after")
    def _one_entry_per_stage(self) -> Self:
        if len(self.channels) != len(self.layers):
            raise ValueError(
                f"model.channels has {len(self.channels)} stages and model.layers {len(self.layers)}; "
                "give both the same"
            )
        return self

    def blocks(self) -> list[list[str]]:
        """`stages.S.B` per stage."""
        return [[f"stages.{s}.{b}" for b in range(count)] for s, count in enumerate(self.layers)]

    def table(self, shape: InputShape) -> Table:
        """Streams `stage0`, `stage1`, ...; inner groups `stages.S.B`."""
        table = Table()
        for s, width in enumerate(self.channels):
            table.groups[f"stage{s}"] = Group(width)
            table.groups |= {block: Group(width) for block in self.blocks()[s]}
        table.linear("conv1", out("stage0"), fixed(shape.channels), 3, 3, bias=False)
        table.norm("bn1", out("stage0"), batch_statistics=True)
        for s, stage in enumerate(self.blocks()):
            stream = f"stage{s}"
            for b, block in enumerate(stage):
                source = f"stage{s - 1}" if s and not b else stream
                table.linear(f"{block}.conv1", out(block), into(source), 3, 3, bias=False)
                table.norm(f"{block}.bn1", out(block), batch_statistics=True)
                table.linear(f"{block}.conv2", out(stream), into(block), 3, 3, bias=False)
                table.norm(f"{block}.bn2", out(stream), batch_statistics=True)
                if s and not b:
                    table.linear(f"{block}.downsample.0", out(stream), into(source), 1, 1, bias=False)
                    table.norm(f"{block}.downsample.1", out(stream), batch_statistics=True)
        table.linear("fc", fixed(shape.classes), into(f"stage{len(self.channels) - 1}"))
        return table

    def build(self, shape: InputShape) -> nn.Module:
        """A `SmallResNet`."""
        from mmbench.models._networks import SmallResNet

        return SmallResNet(shape.channels, shape.classes, self.channels, self.layers)

    def widened(self, factor: float, axis: WidthAxis = "width") -> Self:
        """Every stage wider; timm's basic block has no inner width of its own."""
        if axis == "hidden":
            raise UndefinedError(
                "timm's BasicBlock ties the inner width to the stage's, so expansion.axis=hidden is not defined for the"
                " family 'resnet'; use expansion.axis=width"
            )
        return self.model_copy(update={"channels": tuple(scaled(c, factor) for c in self.channels)})

    def deepened(self, factor: float) -> Self:
        """More blocks in every stage, in proportion."""
        return self.model_copy(update={"layers": tuple(scaled(count, factor) for count in self.layers)})

    @classmethod
    def read(cls, model: nn.Module) -> tuple[Self, InputShape] | None:
        """From a `SmallResNet`; the image size does not enter its sizes and is given as 32."""
        from mmbench.models._networks import SmallResNet

        if not isinstance(model, SmallResNet):
            return None
        stages: list[list[Any]] = [list(stage.children()) for stage in model.stages]
        sizes = cls(channels=tuple(s[0].conv2.out_channels for s in stages), layers=tuple(map(len, stages)))
        return sizes, InputShape(model.conv1.in_channels, 32, model.fc.out_features)
