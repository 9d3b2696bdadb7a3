"""Augmentation of whole batches of tensors."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def crop_and_flip(images: Tensor, padding: int, flip: bool, generator: torch.Generator) -> Tensor:
    """Random crops of the images' own size out of their zero-padded selves, half of them mirrored, in one gather.

    Args:
        images: (B, C, H, W), any dtype.
        padding: zeros a side; an image moves by up to this many pixels each way. 0 for no crop.
        flip: mirror each image left to right with probability 1/2.
        generator: on the images' device; three draws a batch whatever is asked for.

    Returns:
        (B, C, H, W), a new tensor. The same distribution as torchvision's RandomCrop and RandomHorizontalFlip.
    """
    batch, channels, height, width = images.shape
    device = images.device

    def draw(n: int) -> Tensor:
        return torch.randint(n, (batch, 1), generator=generator, device=device)  # (B, 1)

    top, left, mirrored = draw(2 * padding + 1), draw(2 * padding + 1), draw(2).bool()
    rows = top + torch.arange(height, device=device)  # (B, H)
    columns = torch.arange(width, device=device).expand(batch, width)
    if flip:
        columns = torch.where(mirrored, columns.flip(-1), columns)
    columns = left + columns  # (B, W)
    padded = F.pad(images, (padding,) * 4)
    pixel = rows[:, :, None] * padded.shape[-1] + columns[:, None]  # (B, H, W), in a padded channel
    pixel = pixel.view(batch, 1, -1).expand(-1, channels, -1)
    return padded.flatten(2).gather(-1, pixel).view(batch, channels, height, width)
