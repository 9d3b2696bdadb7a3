"""Augmentation of whole batches of training images: crops and mirroring, colour jitter, and AlexNet's lighting.

Sources of the colour changes: `imagenet/utils.py` of the authors' release, which does not clip them either; Krizhevsky,
Sutskever, Hinton, 2012, section 4.1 (lighting).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

BRIGHTNESS, CONTRAST, SATURATION = range(3)  # the changes of jitter
GREY = 0.299, 0.587, 0.114  # weights of red, green and blue

# Principal components of the colours of ImageNet's pixels in [0, 1].
EIGENVALUES = 0.2175, 0.0188, 0.0045
EIGENVECTORS = (  # one in each column
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)


def draw_crops(images: int, padding: int, flip: bool, generator: torch.Generator) -> Tensor:
    """Draw what `crop_and_flip` does to each image.

    Args:
        images: B.
        padding: width in pixels of the border of zeros, the farthest that an image moves each way.
        flip: mirror each image left to right with probability 1/2.
        generator: draws the same number of values for every `padding` and `flip`.

    Returns:
        (B, 3) int64 on the generator's device: the first row and column in the padded image, and 1 for mirrored.
    """
    ends = 2 * padding + 1, 2 * padding + 1, 2
    top, left, mirrored = (torch.randint(end, (images,), generator=generator, device=generator.device) for end in ends)
    return torch.stack([top, left, mirrored * flip], dim=1)


def crop_and_flip(images: Tensor, padding: int, crops: Tensor) -> Tensor:
    """Crop zero-padded images to their own size, and mirror some, as torchvision's RandomCrop and RandomHorizontalFlip.

    Args:
        images: (B, C, H, W), any dtype.
        padding: width in pixels of the border of zeros.
        crops: (B, 3) from `draw_crops`, on the images' device.

    Returns:
        A new tensor, (B, C, H, W).
    """
    batch, channels, height, width = images.shape
    top, left, mirrored = crops[:, :, None].unbind(1)  # (B, 1) each
    rows = top + torch.arange(height, device=images.device)  # (B, H)
    columns = torch.arange(width, device=images.device).expand(batch, width)
    columns = left + torch.where(mirrored.bool(), columns.flip(-1), columns)  # (B, W)

    padded = F.pad(images, (padding,) * 4)
    pixel = rows[:, :, None] * padded.shape[-1] + columns[:, None]  # (B, H, W), index into a padded channel
    pixel = pixel.view(batch, 1, -1).expand(-1, channels, -1)  # (B, C, H W)
    return padded.flatten(2).gather(-1, pixel).view(batch, channels, height, width)


class Colors(NamedTuple):
    """Colour changes of B images."""

    changes: Tensor  # (B, 3) int64, an order of brightness, contrast and saturation for each image
    amounts: Tensor  # (B, 3), how far each of these changes goes
    lights: Tensor  # (B, 3), how far an image's colour moves along each principal component


def draw_colors(images: int, jitter: float, lighting: float, generator: torch.Generator) -> Colors:
    """Draw what `change_colors` does to each of B images, on the generator's device.

    Amounts ~ U(-jitter, jitter), lights ~ N(0, lighting^2). The number of draws does not depend on these two values.
    """
    on = {"generator": generator, "device": generator.device}
    changes = torch.rand(images, 3, **on).argsort(1)
    return Colors(changes, jitter * (2 * torch.rand(images, 3, **on) - 1), lighting * torch.randn(images, 3, **on))


def change_colors(images: Tensor, colors: Colors) -> None:
    """Change brightness, contrast and saturation, then the lighting, in place. Values may leave [0, 1].

    Each of the first three moves an image towards a reference or away from it: x + amount (reference - x). The
    reference is black for brightness, the image's mean grey for contrast, and each pixel's own grey for saturation.
    Lighting adds one colour to all pixels of an image.

    Args:
        images: (B, 3, H, W) float, pixels in [0, 1].
        colors: from `draw_colors`, on the images' device.
    """
    for change, amount in zip(*(drawn.view(-1, 3, 1, 1, 1).unbind(1) for drawn in colors[:2]), strict=True):
        grey = sum(weight * channel for weight, channel in zip(GREY, images.split(1, 1), strict=True))  # (B, 1, H, W)
        mean = grey.mean((2, 3), keepdim=True) * (change == CONTRAST)  # (B, 1, 1, 1), 0 for brightness
        images.lerp_(torch.where(change == SATURATION, grey, mean), amount)

    lights = [value * light for value, light in zip(EIGENVALUES, colors.lights.unbind(1), strict=True)]  # (B,) each
    shift = [sum(part * light for part, light in zip(row, lights, strict=True)) for row in EIGENVECTORS]
    images += torch.stack(shift, 1)[:, :, None, None]
