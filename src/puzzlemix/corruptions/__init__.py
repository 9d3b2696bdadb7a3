"""Corrupted test images (Hendrycks and Dietterich, ICLR 2019): CIFAR-10-C, CIFAR-100-C, Tiny-ImageNet-C, ImageNet-C.

`sets.py` reads a set, as it was released or as `generate.py` made it anew. What a corruption is stands in `noise.py`,
`blur.py`, `weather.py` and `digital.py`, how strong it is in `severities.py`.
"""

from puzzlemix.corruptions.names import RELEASED, SEVERITIES, STANDARD
from puzzlemix.corruptions.sets import CorruptedImages, corruption_folder

__all__ = ["RELEASED", "SEVERITIES", "STANDARD", "CorruptedImages", "corruption_folder"]
