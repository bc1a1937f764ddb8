"""Vision Transformer (Dosovitskiy et al., 2021): timm's `VisionTransformer` with a class token."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import Field, model_validator

from mmbench.data.base import InputShape
from mmbench.errors import UndefinedError
from mmbench.models.base import Architecture, Group, Table, WidthAxis, fixed, into, out, scaled
from mmbench.registry import MODELS

if TYPE_CHECKING:
    from torch import nn


@MODELS.register("vit")
class ViT(Architecture):
    """Pre-norm transformer blocks on image patches.

    Channel groups: one `stream` that every LayerNorm runs over; per block its attention heads (each `head_dim`
    channels, three times in the fused q, k, v) and the hidden units of its MLP.
    """

    imports: ClassVar[tuple[str, ...]] = ("timm.models.vision_transformer",)
    zero_to_silence: ClassVar[tuple[str, ...]] = (
        "attn.proj.weight",
        "attn.proj.bias",
        "mlp.fc2.weight",
        "mlp.fc2.bias",
    )

    embed_dim: int = Field(32, ge=1, le=8192)
    """Channels of the stream."""
    heads: int = Field(2, ge=1, le=256)
    """Attention heads per block."""
    hidden: int = Field(128, ge=1, le=65536)
    """Hidden units of each block's MLP."""
    layers: int = Field(2, ge=1, le=256)
    """Blocks."""
    patch_size: int = Field(2, ge=1, le=64)
    """Side of a patch in pixels; must divide the image size."""

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.embed_dim % self.heads:
            raise ValueError(f"model.embed_dim = {self.embed_dim} must be a multiple of model.heads = {self.heads}")
        return self

    def blocks(self) -> list[list[str]]:
        """`blocks.B`, one stage."""
        return [[f"blocks.{b}" for b in range(self.layers)]]

    def table(self, shape: InputShape) -> Table:
        """Groups `stream`, `blocks.B.heads`, `blocks.B.hidden`."""
        if shape.image_size % self.patch_size:
            raise UndefinedError(
                f"model.patch_size = {self.patch_size} does not divide the image size {shape.image_size}"
            )
        head_dim = self.embed_dim // self.heads
        table = Table({"stream": Group(self.embed_dim, layer_norm=True)})
        stream, tokens = out("stream"), (shape.image_size // self.patch_size) ** 2 + 1
        table.add("cls_token", fixed(1), fixed(1), stream)
        table.add("pos_embed", fixed(1), fixed(tokens), stream)
        table.linear("patch_embed.proj", stream, fixed(shape.channels), self.patch_size, self.patch_size)
        for block in self.blocks()[0]:
            heads, hidden = f"{block}.heads", f"{block}.hidden"
            table.groups |= {heads: Group(self.heads), hidden: Group(self.hidden)}
            table.norm(f"{block}.norm1", stream)
            table.linear(f"{block}.attn.qkv", out(heads, unit=head_dim, repeat=3), into("stream"))
            table.linear(f"{block}.attn.proj", stream, into(heads, unit=head_dim))
            table.norm(f"{block}.norm2", stream)
            table.linear(f"{block}.mlp.fc1", out(hidden), into("stream"))
            table.linear(f"{block}.mlp.fc2", stream, into(hidden))
        table.norm("norm", stream)
        table.linear("head", fixed(shape.classes), into("stream"))
        return table

    def build(self, shape: InputShape) -> nn.Module:
        """timm's class, without dropout."""
        from timm.models.vision_transformer import VisionTransformer

        self.table(shape)  # refuses a patch size that does not fit
        return VisionTransformer(
            img_size=shape.image_size,
            patch_size=self.patch_size,
            in_chans=shape.channels,
            num_classes=shape.classes,
            embed_dim=self.embed_dim,
            depth=self.layers,
            num_heads=self.heads,
            mlp_ratio=(self.hidden + 0.5) / self.embed_dim,  # timm truncates: without the half, 61 / 7 * 7 makes 60
        )

    def widened(self, factor: float, axis: WidthAxis = "width") -> Self:
        """`width`: more heads of the same size, stream and hidden units in proportion; `hidden`: hidden units only."""
        hidden = scaled(self.hidden, factor)
        if axis == "hidden":
            return self.model_copy(update={"hidden": hidden})
        heads = scaled(self.heads, factor)
        stream = heads * (self.embed_dim // self.heads)
        return self.model_copy(update={"heads": heads, "embed_dim": stream, "hidden": hidden})

    def deepened(self, factor: float) -> Self:
        """More blocks."""
        return self.model_copy(update={"layers": scaled(self.layers, factor)})

    @classmethod
    def read(cls, model: nn.Module) -> tuple[Self, InputShape] | None:
        """From a timm `VisionTransformer`."""
        from timm.models.vision_transformer import VisionTransformer

        if not isinstance(model, VisionTransformer) or not len(model.blocks):
            return None
        embedding, block = model.patch_embed, model.blocks[0]
        sizes = cls(
            embed_dim=model.embed_dim,
            heads=block.attn.num_heads,
            hidden=block.mlp.fc1.out_features,
            layers=len(model.blocks),
            patch_size=embedding.patch_size[0],
        )
        return sizes, InputShape(embedding.proj.in_channels, embedding.img_size[0], model.num_classes)
