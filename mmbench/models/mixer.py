"""MLP-Mixer (Tolstikhin et al., 2021): timm's `MlpMixer`."""

from __future__ import annotations

from functools import partial
from typing import ClassVar, Self

from pydantic import Field
from torch import nn
from torch.nn import LayerNorm

from mmbench.data.base import InputShape
from mmbench.models._patches import count_patches, image_size
from mmbench.models.base import MODELS, Architecture
from mmbench.models.parts import eps_of, outputs, part
from mmbench.models.table import Group, Table, fixed, into, out


@MODELS.register("mixer")
class Mixer(Architecture):
    """Blocks that mix the patches of every channel, then the channels of every patch, each by an MLP.

    Channel groups: one `stream`, which every LayerNorm normalises; per block the hidden units `blocks.B.tokens` and
    `blocks.B.channels` of its two MLPs. The number of patches does not grow.
    """

    axes: ClassVar[dict[str, tuple[str, ...]]] = {
        "width": ("embed_dim", "token_hidden", "channel_hidden"),
        "stream": ("embed_dim",),
        "hidden": ("token_hidden", "channel_hidden"),
        "depth": ("layers",),
    }

    embed_dim: int = Field(32, ge=1, le=16384)
    """Channels of the stream."""
    token_hidden: int = Field(32, ge=1, le=131072)
    """Hidden units of the MLP across patches."""
    channel_hidden: int = Field(96, ge=1, le=131072)
    """Hidden units of the MLP across channels."""
    layers: int = Field(3, ge=1, le=1024)
    """Blocks."""
    patch_size: int = Field(2, ge=1, le=64)
    """Side of a patch in pixels; must divide the image size."""
    eps: float = Field(1e-6, gt=0, le=0.1)
    """Epsilon of every LayerNorm."""

    def blocks(self) -> list[list[str]]:
        """`blocks.B`, one stage."""
        return [[f"blocks.{b}" for b in range(self.layers)]]

    def silencers(self) -> tuple[str, ...]:
        """The last layer of both MLPs."""
        return tuple(f"{mlp}.fc2.{part}" for mlp in ("mlp_tokens", "mlp_channels") for part in ("weight", "bias"))

    def table(self, shape: InputShape) -> Table:
        """Groups `stream`, `blocks.B.tokens`, `blocks.B.channels`."""
        patches = fixed(count_patches(shape, self.patch_size))
        table = Table({"stream": Group(self.embed_dim, "LayerNorm")})
        stream, patch = out("stream"), fixed(self.patch_size)
        table.linear("stem.proj", stream, fixed(shape.channels), patch, patch)
        for block in self.blocks()[0]:
            tokens, channels = f"{block}.tokens", f"{block}.channels"
            table.groups |= {tokens: Group(self.token_hidden), channels: Group(self.channel_hidden)}
            table.norm(f"{block}.norm1", stream)
            table.linear(f"{block}.mlp_tokens.fc1", out(tokens), patches)
            table.linear(f"{block}.mlp_tokens.fc2", patches, into(tokens))
            table.norm(f"{block}.norm2", stream)
            table.linear(f"{block}.mlp_channels.fc1", out(channels), into("stream"))
            table.linear(f"{block}.mlp_channels.fc2", stream, into(channels))
        table.norm("norm", stream)
        table.linear("head", fixed(shape.classes), into("stream"))
        return table

    def build(self, shape: InputShape) -> nn.Module:
        """timm's class, without dropout."""
        count_patches(shape, self.patch_size)
        from timm.models.mlp_mixer import MlpMixer

        return MlpMixer(
            num_classes=shape.classes,
            img_size=shape.image_size,
            in_chans=shape.channels,
            patch_size=self.patch_size,
            num_blocks=self.layers,
            embed_dim=self.embed_dim,
            # timm truncates the products; adding a half keeps them from being one too small
            mlp_ratio=((self.token_hidden + 0.5) / self.embed_dim, (self.channel_hidden + 0.5) / self.embed_dim),
            norm_layer=partial(LayerNorm, eps=self.eps),
        )

    @classmethod
    def read(cls, model: nn.Module) -> tuple[Self, InputShape] | None:
        """From a timm `MlpMixer` of mixer blocks."""
        from timm.models.mlp_mixer import MlpMixer

        if not isinstance(model, MlpMixer) or not len(model.blocks):
            return None
        embedding = part(model, "stem", "PatchEmbed")
        projection = part(model, "stem.proj", "Conv2d")
        part(model, "blocks.0", "MixerBlock")
        sizes = {
            "embed_dim": projection.weight.shape[0],
            "layers": len(model.blocks),
            "patch_size": embedding.patch_size[0],
            "eps": eps_of(model, "blocks.0.norm1"),
        }
        for mlp in ("tokens", "channels"):
            part(model, f"blocks.0.mlp_{mlp}", "Mlp")
            sizes["token_hidden" if mlp == "tokens" else "channel_hidden"] = part(
                model, f"blocks.0.mlp_{mlp}.fc1", "Linear"
            ).weight.shape[0]
        size = image_size(embedding, "stem")
        return cls.of(sizes), InputShape(projection.weight.shape[1], size, outputs(model, "head"))
