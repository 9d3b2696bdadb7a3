"""ResNet (He et al., 2015) from torchvision, taking pixels in [0, 1] as all networks here. Needs torchvision."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.models.resnet import ResNet as TorchvisionResNet

from puzzlemix.networks.normalize import Normalize
from puzzlemix.runtime.errors import require

BLOCKS = {18: (BasicBlock, [2, 2, 2, 2]), 50: (Bottleneck, [3, 4, 6, 3])}


class ResNet(TorchvisionResNet):
    """Torchvision's ResNet behind a normalisation layer; its state-dict names."""

    def __init__(self, block: type, blocks: list[int], num_classes: int, mean: Sequence[float], std: Sequence[float]):
        super().__init__(block, blocks, num_classes)
        self.normalize = Normalize(mean, std)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] -> logits (B, K)."""
        return super().forward(self.normalize(pixels))


def resnet(
    depth: int,
    num_classes: int,
    small_images: bool = False,
    zero_init_last_bn: bool = False,
    linear_std: float | None = None,
    *,
    mean: Sequence[float],
    std: Sequence[float],
) -> ResNet:
    """ResNet-18 or ResNet-50.

    Args:
        depth: 18 or 50.
        num_classes: K.
        small_images: a 3 x 3 stem without stride and pooling, as usual for 32 x 32 pixels.
        zero_init_last_bn: start each block as the identity; the fast ImageNet recipe does.
        linear_std: draw the classifier's weights from N(0, linear_std^2); the fast ImageNet recipe takes 0.01.
        mean, std: channel statistics that the first layer normalises with; their length is the number of channels.

    Raises:
        InputError: (a ValueError) on another depth.
    """
    require(depth in BLOCKS, f"resnet depths here are {sorted(BLOCKS)}, not {depth}")
    network = ResNet(*BLOCKS[depth], num_classes, mean, std)
    if small_images:
        network.conv1 = nn.Conv2d(len(mean), 64, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")  # as torchvision's
        network.maxpool = nn.Identity()
    elif len(mean) != 3:
        network.conv1 = nn.Conv2d(len(mean), 64, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    if zero_init_last_bn:
        for block in network.modules():
            if isinstance(block, BasicBlock | Bottleneck):
                nn.init.zeros_((block.bn3 if isinstance(block, Bottleneck) else block.bn2).weight)
    if linear_std is not None:
        nn.init.normal_(network.fc.weight, std=linear_std)
    return network
