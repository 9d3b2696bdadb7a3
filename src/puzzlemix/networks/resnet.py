"""Torchvision's ResNet (He et al., 2015) with normalisation inside."""

from collections.abc import Sequence

from torch import Tensor, nn
from torchvision.models import resnet as torchvision_resnet

from puzzlemix.networks.normalize import Normalize
from puzzlemix.runtime.errors import require

BLOCKS = {18: (torchvision_resnet.BasicBlock, [2, 2, 2, 2]), 50: (torchvision_resnet.Bottleneck, [3, 4, 6, 3])}


class ResNet(torchvision_resnet.ResNet):
    """Torchvision's ResNet behind a normalisation layer. Arguments and names in the state dict are torchvision's."""

    def __init__(self, *args: object, mean: Sequence[float], std: Sequence[float]):
        super().__init__(*args)
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
        depth: 18 or 50; any other depth raises `InputError`.
        num_classes: K.
        small_images: begin with a 3 x 3 convolution without stride and pooling, as is usual for 32 x 32 pixels.
        zero_init_last_bn: initialise each block as the identity, as the fast ImageNet recipe does.
        linear_std: draw the classifier's weights from N(0, linear_std^2); 0.01 in the fast ImageNet recipe.
        mean, std: statistics of the C channels, for `Normalize`.
    """
    require(depth in BLOCKS, f"depth must be one of {sorted(BLOCKS)}, not {depth}")
    network = ResNet(*BLOCKS[depth], num_classes, zero_init_last_bn, mean=mean, std=std)

    if small_images or len(mean) != 3:
        side, stride = (3, 1) if small_images else (7, 2)
        network.conv1 = nn.Conv2d(len(mean), 64, side, stride, padding=side // 2, bias=False)
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")  # as in torchvision
    if small_images:
        network.maxpool = nn.Identity()
    if linear_std is not None:
        nn.init.normal_(network.fc.weight, std=linear_std)
    return network
