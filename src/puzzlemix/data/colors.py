"""Colour changes of whole batches of training images: jitter, and AlexNet's lighting. Nothing is clipped, as released.

Source: `imagenet/utils.py` of the authors' release; Krizhevsky, Sutskever, Hinton, 2012, section 4.1 (lighting).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

BRIGHTNESS, CONTRAST, SATURATION = range(3)  # the changes that jitter makes
GREY = 0.299, 0.587, 0.114  # shares of red, green and blue

# Principal components of the colours of ImageNet's pixels, in [0, 1].
EIGENVALUES = 0.2175, 0.0188, 0.0045
EIGENVECTORS = (  # a column each
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)


class Colors(NamedTuple):
    """What is drawn for B images."""

    changes: Tensor  # (B, 3) int64, each image's order of brightness, contrast and saturation
    amounts: Tensor  # (B, 3), how far each of these changes goes
    lights: Tensor  # (B, 3), how far an image's colour moves along each component


def draw_colors(images: int, jitter: float, lighting: float, generator: torch.Generator) -> Colors:
    """What `change_colors` does to so many images, on the generator's device.

    Args:
        images: B.
        jitter: each amount ~ U(-jitter, jitter).
        lighting: standard deviation of each light; 0.1 in AlexNet.
        generator: three draws whatever is asked for.
    """
    on = {"generator": generator, "device": generator.device}
    changes = torch.rand(images, 3, **on).argsort(1)
    return Colors(changes, jitter * (2 * torch.rand(images, 3, **on) - 1), lighting * torch.randn(images, 3, **on))


def change_colors(images: Tensor, colors: Colors) -> None:
    """Jitter, then lighting, in place. Values leave [0, 1].

    Each change of jitter moves an image towards a reference, or away from it: x + amount (reference - x). The reference
    is black for brightness, the mean grey of the image for contrast, and each pixel's own grey for saturation. Lighting
    then shifts all pixels of an image by one colour.

    Args:
        images: (B, 3, H, W) float, pixels in [0, 1].
        colors: of `draw_colors`, on the images' device.
    """
    for change, amount in zip(*(drawn.view(-1, 3, 1, 1, 1).unbind(1) for drawn in colors[:2]), strict=True):
        grey = sum(share * channel for share, channel in zip(GREY, images.split(1, 1), strict=True))  # (B, 1, H, W)
        mean = grey.mean((2, 3), keepdim=True) * (change == CONTRAST)
        images.lerp_(torch.where(change == SATURATION, grey, mean), amount)  # of brightness towards 0
    lights = [value * light for value, light in zip(EIGENVALUES, colors.lights.unbind(1), strict=True)]  # (B,) each
    shift = [sum(part * light for part, light in zip(row, lights, strict=True)) for row in EIGENVECTORS]
    images += torch.stack(shift, 1)[:, :, None, None]
