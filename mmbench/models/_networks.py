"""Network modules that timm does not have. This file loads timm, so it is imported only when a network is built."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from timm.models.resnet import BasicBlock, Bottleneck, ResNet, downsample_conv
from torch import Tensor, nn

BLOCKS: dict[str, type[BasicBlock | Bottleneck]] = {"basic": BasicBlock, "bottleneck": Bottleneck}


class SmallResNet(nn.Module):
    """Residual network with a 3x3 stem: images (N, in_channels, H, W) to logits (N, classes)."""

    def __init__(
        self, block: str, in_channels: int, classes: int, channels: Sequence[int], layers: Sequence[int]
    ) -> None:
        super().__init__()
        kind = BLOCKS[block]
        self.conv1 = nn.Conv2d(in_channels, channels[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels[0])
        self.act1 = nn.ReLU()
        stages, previous = [], channels[0]
        for s, (width, count) in enumerate(zip(channels, layers, strict=True)):
            stride, stream = 2 if s else 1, width * kind.expansion
            shortcut = (
                downsample_conv(previous, stream, kernel_size=1, stride=stride) if s or stream != previous else None
            )
            first = kind(previous, width, stride=stride, downsample=shortcut)
            stages.append(nn.Sequential(first, *(kind(stream, width) for _ in range(count - 1))))
            previous = stream
        self.stages = nn.Sequential(*stages)
        self.fc = nn.Linear(previous, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward_features(self, images: Tensor) -> Tensor:
        """The features before average pooling: (N, channels, H', W')."""
        return cast("Tensor", self.stages(self.act1(self.bn1(self.conv1(images)))))

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        return cast("Tensor", self.fc(self.forward_features(images).mean(dim=(2, 3))))


def timm_resnet(
    block: str, in_channels: int, classes: int, channels: Sequence[int], layers: Sequence[int]
) -> nn.Module:
    """timm's `ResNet` with a 7x7 stem and a max-pool; the stem has as many channels as the first stage.

    timm's own 7x7 stem always has 64 channels. For another number the network is made with timm's `deep` stem, whose
    width can be chosen, and its first convolution is replaced.

    Args:
        block: "basic" or "bottleneck".
        in_channels: of the images.
        classes: number of logits.
        channels: per stage; the first is even.
        layers: blocks per stage.

    Returns:
        The network: images (N, in_channels, H, W) to logits (N, classes).
    """
    wide = channels[0] != 64
    stem = {"stem_type": "deep", "stem_width": channels[0] // 2} if wide else {}
    model = ResNet(
        BLOCKS[block], tuple(layers), num_classes=classes, in_chans=in_channels, channels=tuple(channels), **stem
    )
    if wide:
        model.conv1 = _conv(in_channels, channels[0], 7, stride=2)
    return model


def change_stem(model: Any, kernel_size: int, stride: int, pool: bool) -> None:
    """Give timm's `ResNet` another stem, such as a 3x3 convolution of stride 1 without a max-pool.

    Args:
        model: the network; changed in place, a new convolution freshly initialised.
        kernel_size: side of the convolution.
        stride: of the convolution.
        pool: whether its 3x3 max-pool of stride 2 stays.
    """
    stem = model.conv1
    if (stem.kernel_size[0], stem.stride[0]) != (kernel_size, stride):
        model.conv1 = _conv(stem.in_channels, stem.out_channels, kernel_size, stride)
    if not pool:
        model.maxpool = nn.Identity()


def resize(block: Any, inner: int, kernel_size: int) -> None:
    """Give one of timm's residual blocks an inner width and a kernel size that its constructor does not offer.

    Args:
        block: a `BasicBlock` or `Bottleneck`; changed in place, its new layers freshly initialised.
        inner: channels inside the block.
        kernel_size: side of the 3x3 convolutions, odd.
    """
    first, second = block.conv1, block.conv2
    middle = second.out_channels if isinstance(block, BasicBlock) else inner
    square = kernel_size if isinstance(block, BasicBlock) else 1
    if (first.out_channels, second.kernel_size[0]) == (inner, kernel_size):
        return
    block.conv1 = _conv(first.in_channels, inner, square, first.stride)
    block.bn1 = nn.BatchNorm2d(inner)
    block.conv2 = _conv(inner, middle, kernel_size, second.stride)
    block.bn2 = nn.BatchNorm2d(middle)
    if isinstance(block, Bottleneck):
        block.conv3 = _conv(inner, block.conv3.out_channels, 1)


def _conv(in_channels: int, out_channels: int, kernel_size: int, stride: int | tuple[int, ...] = 1) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False)  # type: ignore[arg-type]
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv
