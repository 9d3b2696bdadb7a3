"""PreActResNet (He et al., 2016) as in the Puzzle Mix release, without batch norm and ReLU after the last block.

The state dict has the names of the release, so that the authors' checkpoints load.
"""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from puzzlemix.networks.normalize import Normalize


class PreActBlock(nn.Module):
    """Two 3 x 3 convolutions, each after batch norm and ReLU. The shortcut branches off after the first ReLU."""

    def __init__(self, in_channels: int, channels: int, stride: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, channels, H / stride, W / stride)."""
        out = F.relu(self.bn1(x))
        shortcut = self.shortcut(out) if hasattr(self, "shortcut") else x
        out = self.conv1(out)
        return self.conv2(F.relu(self.bn2(out))) + shortcut


class PreActResNet(nn.Module):
    """PreActResNet with the stages `layer1` to `layer4`.

    Args:
        blocks: number of residual blocks in each of the four stages.
        num_classes: K.
        initial_channels: channels of the first stage; each later stage has twice as many as the one before.
        stride: stride of the first convolution; 2 for 64 x 64 pixels (Tiny-ImageNet).
        mean, std: statistics of the C channels, for `Normalize`.
    """

    def __init__(
        self,
        blocks: Sequence[int],
        num_classes: int,
        initial_channels: int = 64,
        stride: int = 1,
        *,
        mean: Sequence[float],
        std: Sequence[float],
    ):
        super().__init__()
        channels = initial_channels
        self.normalize = Normalize(mean, std)
        self.conv1 = nn.Conv2d(len(mean), channels, 3, stride, padding=1, bias=False)
        self.layer1 = self._stage(channels, channels, blocks[0], stride=1)
        self.layer2 = self._stage(channels, 2 * channels, blocks[1], stride=2)
        self.layer3 = self._stage(2 * channels, 4 * channels, blocks[2], stride=2)
        self.layer4 = self._stage(4 * channels, 8 * channels, blocks[3], stride=2)
        self.linear = nn.Linear(8 * channels, num_classes)

    @staticmethod
    def _stage(in_channels: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
        rest = [PreActBlock(channels, channels, stride=1) for _ in range(blocks - 1)]
        return nn.Sequential(PreActBlock(in_channels, channels, stride), *rest)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] -> logits (B, K)."""
        hidden = self.conv1(self.normalize(pixels))
        hidden = self.layer4(self.layer3(self.layer2(self.layer1(hidden))))
        return self.linear(hidden.mean((2, 3)))


def preactresnet18(num_classes: int, *arguments: Any, **options: Any) -> PreActResNet:
    """PreActResNet-18. The arguments are those of `PreActResNet`, without `blocks`."""
    return PreActResNet([2, 2, 2, 2], num_classes, *arguments, **options)


def preactresnet34(num_classes: int, *arguments: Any, **options: Any) -> PreActResNet:
    """PreActResNet-34. The arguments are those of `PreActResNet`, without `blocks`."""
    return PreActResNet([3, 4, 6, 3], num_classes, *arguments, **options)
