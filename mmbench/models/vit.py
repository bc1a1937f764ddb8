"""Vision Transformer (Dosovitskiy et al., 2021): timm's `VisionTransformer`."""

from __future__ import annotations

from functools import partial
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator
from torch import nn

from mmbench.data.base import InputShape
from mmbench.models._patches import count_patches, image_size
from mmbench.models.base import MODELS, Architecture, Sizes, scaled
from mmbench.models.parts import class_of, eps_of, outputs, part
from mmbench.models.table import Group, Table, fixed, into, out


@MODELS.register("vit")
class ViT(Architecture):
    """Pre-norm transformer blocks on image patches.

    Channel groups: one `stream`, which every LayerNorm normalises; per block its attention heads and the hidden units
    of its MLP; and `head_dim`, the channels of a head, shared by all blocks. The rows of the fused q, k, v are
    (3, heads, head_dim).
    """

    axes: ClassVar[dict[str, tuple[str, ...]]] = {
        "width": ("heads", "hidden"),
        "stream": ("embed_dim",),
        "hidden": ("hidden",),
        "heads": ("heads",),
        "head_dim": ("head_dim",),
        "depth": ("layers",),
    }

    embed_dim: int = Field(32, ge=1, le=16384)
    """Channels of the stream."""
    heads: int = Field(2, ge=1, le=1024)
    """Attention heads per block."""
    head_dim: int | None = Field(None, ge=1, le=16384)
    """Channels of a head; embed_dim / heads unless given."""
    hidden: int = Field(128, ge=1, le=131072)
    """Hidden units of each block's MLP."""
    layers: int = Field(2, ge=1, le=1024)
    """Blocks."""
    patch_size: int = Field(2, ge=1, le=64)
    """Side of a patch in pixels; must divide the image size."""
    pool: Literal["token", "avg"] = "token"
    """Input of the classifier: the class token, or the average of the patches."""
    class_token: bool = True
    """Whether there is a class token; `pool=token` needs it."""
    registers: int = Field(0, ge=0, le=64)
    """Register tokens (Darcet et al., 2024)."""
    embed_prefix: bool = True
    """Whether the class and register tokens have position embeddings."""
    pre_norm: bool = False
    """A LayerNorm on the embeddings, which then have no bias, as in CLIP."""
    qkv_bias: bool = True
    """Whether queries, keys and values have biases."""
    layer_scale: bool = False
    """A learned scale per channel on each residual branch (Touvron et al., 2021)."""
    eps: float = Field(1e-6, gt=0, le=0.1)
    """Epsilon of every LayerNorm."""
    fc_norm: bool | None = None
    """Whether the last LayerNorm follows the pooling; true for pool=avg and false for pool=token unless given."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.head_dim is None and self.embed_dim % self.heads:
            raise ValueError(
                f"model.embed_dim = {self.embed_dim} must be a multiple of model.heads = {self.heads}, unless "
                "model.head_dim is given"
            )
        if self.pool == "token" and not self.class_token:
            raise ValueError("model.pool = token needs model.class_token = true; or use model.pool = avg")
        return self

    def sizes(self) -> Sizes:
        """With the channels of a head and the place of the last norm."""
        fc_norm = self.pool == "avg" if self.fc_norm is None else self.fc_norm
        return {**dict(self), "head_dim": self.head_dim or self.embed_dim // self.heads, "fc_norm": fc_norm}

    @classmethod
    def of(cls, sizes: Sizes) -> Self:
        """`head_dim` is None if it equals embed_dim / heads, and `fc_norm` if it follows the pooling."""
        head_dim = None if sizes["heads"] * sizes["head_dim"] == sizes["embed_dim"] else sizes["head_dim"]
        fc_norm = None if sizes["fc_norm"] == (sizes["pool"] == "avg") else sizes["fc_norm"]
        return super().of({**sizes, "head_dim": head_dim, "fc_norm": fc_norm})

    def grown(self, axis: str, factor: float) -> Self:
        """`width`: more heads of the same size, and the stream and hidden units in proportion."""
        grown = super().grown(axis, factor)
        if axis != "width":
            return grown
        stream = scaled(self.embed_dim, grown.heads / self.heads)
        return self.of({**self.sizes(), "embed_dim": stream, "heads": grown.heads, "hidden": grown.hidden})

    def blocks(self) -> list[list[str]]:
        """`blocks.B`, one stage."""
        return [[f"blocks.{b}" for b in range(self.layers)]]

    def silencers(self) -> tuple[str, ...]:
        """Each branch's layer scale or, without one, its last linear layer."""
        if self.layer_scale:
            return "ls1.gamma", "ls2.gamma"
        return "attn.proj.weight", "attn.proj.bias", "mlp.fc2.weight", "mlp.fc2.bias"

    def table(self, shape: InputShape) -> Table:
        """Groups `stream`, `head_dim`, `blocks.B.heads`, `blocks.B.hidden`."""
        prefix = self.class_token + self.registers
        tokens = count_patches(shape, self.patch_size) + prefix * self.embed_prefix
        head_dim = self.sizes()["head_dim"]
        table = Table({"stream": Group(self.embed_dim, "LayerNorm"), "head_dim": Group(head_dim, "attention")})
        stream, patch = out("stream"), fixed(self.patch_size)
        if self.class_token:
            table.add("cls_token", fixed(1), fixed(1), stream)
        if self.registers:
            table.add("reg_token", fixed(1), fixed(self.registers), stream)
        table.add("pos_embed", fixed(1), fixed(tokens), stream)
        table.linear("patch_embed.proj", stream, fixed(shape.channels), patch, patch, bias=not self.pre_norm)
        if self.pre_norm:
            table.norm("norm_pre", stream)
        for block in self.blocks()[0]:
            heads, hidden = f"{block}.heads", f"{block}.hidden"
            table.groups |= {heads: Group(self.heads), hidden: Group(self.hidden)}
            table.norm(f"{block}.norm1", stream)
            table.linear(f"{block}.attn.qkv", out(3, heads, "head_dim"), into("stream"), bias=self.qkv_bias)
            table.linear(f"{block}.attn.proj", stream, into(heads, "head_dim"))
            table.norm(f"{block}.norm2", stream)
            table.linear(f"{block}.mlp.fc1", out(hidden), into("stream"))
            table.linear(f"{block}.mlp.fc2", stream, into(hidden))
            if self.layer_scale:
                table.add(f"{block}.ls1.gamma", stream)
                table.add(f"{block}.ls2.gamma", stream)
        table.norm("fc_norm" if self.sizes()["fc_norm"] else "norm", stream)
        table.linear("head", fixed(shape.classes), into("stream"))
        return table

    def build(self, shape: InputShape) -> nn.Module:
        """timm's class, without dropout."""
        count_patches(shape, self.patch_size)
        from timm.layers import LayerNorm
        from timm.models.vision_transformer import Attention, VisionTransformer

        model = VisionTransformer(
            img_size=shape.image_size,
            patch_size=self.patch_size,
            in_chans=shape.channels,
            num_classes=shape.classes,
            global_pool=self.pool,
            embed_dim=self.embed_dim,
            depth=self.layers,
            num_heads=self.heads if self.head_dim is None else 1,
            mlp_ratio=(self.hidden + 0.5) / self.embed_dim,  # timm truncates: without the half, 61 / 7 * 7 gives 60
            qkv_bias=self.qkv_bias,
            init_values=1e-5 if self.layer_scale else None,
            class_token=self.class_token,
            no_embed_class=not self.embed_prefix,
            reg_tokens=self.registers,
            pre_norm=self.pre_norm,
            fc_norm=self.sizes()["fc_norm"],
            norm_layer=partial(LayerNorm, eps=self.eps),
        )
        if self.head_dim is not None:  # timm's class has no option for it, but its attention layer has
            for block in model.blocks:
                block.attn = Attention(self.embed_dim, self.heads, self.head_dim, qkv_bias=self.qkv_bias)
            model.init_weights(needs_reset=False)
        return model

    @classmethod
    def read(cls, model: nn.Module) -> tuple[Self, InputShape] | None:
        """From a timm `VisionTransformer`."""
        from timm.models.vision_transformer import VisionTransformer

        if not isinstance(model, VisionTransformer) or not len(model.blocks):
            return None
        embedding = part(model, "patch_embed", "PatchEmbed")
        part(model, "blocks.0", "Block")
        attention = part(model, "blocks.0.attn", "Attention")
        projection = part(model, "patch_embed.proj", "Conv2d")
        sizes = {
            "embed_dim": projection.weight.shape[0],
            "heads": attention.num_heads,
            "head_dim": attention.head_dim,
            "layers": len(model.blocks),
            "patch_size": embedding.patch_size[0],
            "pool": "token" if model.global_pool == "token" else "avg",
            "class_token": model.has_class_token,
            "registers": model.num_reg_tokens,
            "embed_prefix": not model.no_embed_class,
            "pre_norm": class_of(part(model, "norm_pre", "LayerNorm", "Identity")) == "LayerNorm",
            "qkv_bias": part(model, "blocks.0.attn.qkv", "Linear").bias is not None,
            "layer_scale": class_of(part(model, "blocks.0.ls1", "LayerScale", "Identity")) == "LayerScale",
            "eps": eps_of(model, "blocks.0.norm1"),
            "fc_norm": class_of(part(model, "fc_norm", "LayerNorm", "Identity")) == "LayerNorm",
        }
        part(model, "blocks.0.mlp", "Mlp")
        sizes["hidden"] = part(model, "blocks.0.mlp.fc1", "Linear").weight.shape[0]
        size = image_size(embedding, "patch_embed")
        return cls.of(sizes), InputShape(projection.weight.shape[1], size, outputs(model, "head"))
