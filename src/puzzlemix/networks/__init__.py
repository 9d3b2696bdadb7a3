"""Networks: `forward(pixels in [0, 1]) -> logits`, normalisation inside, stages named `layer1`, `layer2`, ...

They know nothing of mixing. `networks.resnet` needs torchvision and is imported on its own.
"""

from puzzlemix.networks.preact_resnet import preactresnet18, preactresnet34
from puzzlemix.networks.wide_resnet import wide_resnet

__all__ = ["preactresnet18", "preactresnet34", "wide_resnet"]
