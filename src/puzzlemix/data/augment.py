"""Augmentation of whole batches of tensors: what is drawn, and what comes of it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def draw_crops(images: int, padding: int, flip: bool, generator: torch.Generator) -> Tensor:
    """What `crop_and_flip` does to so many images.

    Args:
        images: B.
        padding: zeros a side; an image moves by up to this many pixels each way. 0 for no crop.
        flip: mirror each image left to right with probability 1/2.
        generator: three draws an image whatever is asked for.

    Returns:
        (B, 3) int64 on the generator's device: the first row and the first column in the padded image, and 1 where it
        is mirrored.
    """
    ends = 2 * padding + 1, 2 * padding + 1, 2
    top, left, mirrored = (torch.randint(end, (images,), generator=generator, device=generator.device) for end in ends)
    return torch.stack([top, left, mirrored * flip], dim=1)


def crop_and_flip(images: Tensor, padding: int, crops: Tensor) -> Tensor:
    """Crops of the images' own size out of their zero-padded selves, some of them mirrored, in one gather.

    Args:
        images: (B, C, H, W), any dtype.
        padding: zeros a side.
        crops: (B, 3), of `draw_crops`, on the images' device.

    Returns:
        (B, C, H, W), a new tensor. The same distribution as torchvision's RandomCrop and RandomHorizontalFlip.
    """
    batch, channels, height, width = images.shape
    top, left, mirrored = crops[:, :, None].unbind(1)  # (B, 1) each
    rows = top + torch.arange(height, device=images.device)  # (B, H)
    columns = torch.arange(width, device=images.device).expand(batch, width)
    columns = left + torch.where(mirrored.bool(), columns.flip(-1), columns)  # (B, W)
    padded = F.pad(images, (padding,) * 4)
    pixel = rows[:, :, None] * padded.shape[-1] + columns[:, None]  # (B, H, W), in a padded channel
    pixel = pixel.view(batch, 1, -1).expand(-1, channels, -1)
    return padded.flatten(2).gather(-1, pixel).view(batch, channels, height, width)
