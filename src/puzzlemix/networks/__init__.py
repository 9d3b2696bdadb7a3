"""Networks, which map pixels in [0, 1] to logits, normalise inside, and name their stages `layer1`, `layer2`, ...

They know nothing about mixing. `networks.resnet` needs torchvision, so import it explicitly. `load` builds the network
of a file of weights.
"""

from puzzlemix.networks.kept import load
from puzzlemix.networks.preact_resnet import preactresnet18, preactresnet34
from puzzlemix.networks.wide_resnet import wide_resnet

__all__ = ["load", "preactresnet18", "preactresnet34", "wide_resnet"]
