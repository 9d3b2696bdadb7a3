"""Wide ResNet (Zagoruyko, Komodakis, 2016) as in the Puzzle Mix release.

Published numbers depend on its unusual details: convolutions with biases, momentum 0.9 in the last batch norm, and
PyTorch's default initialisation. The state dict has the names of the release, so that the authors' checkpoints load.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from puzzlemix.networks.normalize import Normalize
from puzzlemix.runtime.errors import require


class WideBlock(nn.Module):
    """Two 3 x 3 convolutions, each after batch norm and ReLU. The second has the stride."""

    def __init__(self, in_channels: int, channels: int, stride: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, padding=1)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != channels:
            self.shortcut.append(nn.Conv2d(in_channels, channels, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, channels, H / stride, W / stride)."""
        out = self.conv1(F.relu(self.bn1(x)))
        return self.conv2(F.relu(self.bn2(out))) + self.shortcut(x)


class WideResNet(nn.Module):
    """Wide ResNet with the stages `layer1` to `layer3`.

    Args:
        depth: 6 n + 4, for n blocks in each stage; any other depth raises `InputError`.
        widen_factor: the stages have 16, 32 and 64 times as many channels.
        num_classes: K.
        stride: stride of the first convolution; 2 for 64 x 64 pixels (Tiny-ImageNet).
        mean, std: statistics of the C channels, for `Normalize`.
    """

    def __init__(
        self,
        depth: int,
        widen_factor: int,
        num_classes: int,
        stride: int = 1,
        *,
        mean: Sequence[float],
        std: Sequence[float],
    ):
        super().__init__()
        require(depth >= 10 and (depth - 4) % 6 == 0, f"a wide ResNet has depth 6 n + 4 (10, 16, 28), not {depth}")
        blocks = (depth - 4) // 6
        wide = [width * widen_factor for width in (16, 32, 64)]
        self.normalize = Normalize(mean, std)
        self.conv1 = nn.Conv2d(len(mean), 16, 3, stride, padding=1)
        self.layer1 = self._stage(16, wide[0], blocks, stride=1)
        self.layer2 = self._stage(wide[0], wide[1], blocks, stride=2)
        self.layer3 = self._stage(wide[1], wide[2], blocks, stride=2)
        self.bn1 = nn.BatchNorm2d(wide[2], momentum=0.9)
        self.linear = nn.Linear(wide[2], num_classes)

    @staticmethod
    def _stage(in_channels: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
        rest = [WideBlock(channels, channels, stride=1) for _ in range(blocks - 1)]
        return nn.Sequential(WideBlock(in_channels, channels, stride), *rest)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] -> logits (B, K)."""
        hidden = self.conv1(self.normalize(pixels))
        hidden = F.relu(self.bn1(self.layer3(self.layer2(self.layer1(hidden)))))
        return self.linear(hidden.mean((2, 3)))


wide_resnet = WideResNet  # the name in configs
