"""Network modules that timm has no equal of; imported only when a network is built."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from timm.models.resnet import BasicBlock, downsample_conv
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


class SmallResNet(nn.Module):
    """Residual network with a 3x3 stem: images (N, in_channels, H, W) to logits (N, classes)."""

    def __init__(self, in_channels: int, classes: int, channels: Sequence[int], layers: Sequence[int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels[0])
        self.act1 = nn.ReLU()
        stages, previous = [], channels[0]
        for s, (width, count) in enumerate(zip(channels, layers, strict=True)):
            shortcut = downsample_conv(previous, width, kernel_size=1, stride=2) if s else None
            first = BasicBlock(previous, width, stride=2 if s else 1, downsample=shortcut)
            stages.append(nn.Sequential(first, *(BasicBlock(width, width) for _ in range(count - 1))))
            previous = width
        self.stages = nn.Sequential(*stages)
        self.fc = nn.Linear(previous, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        features = self.stages(self.act1(self.bn1(self.conv1(images))))
        return cast("Tensor", self.fc(features.mean(dim=(2, 3))))
