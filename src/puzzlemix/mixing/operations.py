"""The operations of AugMix's chains on batches of uint8 images, each image with a strength of its own.

Those of the authors' code (google-research/augmix, `augmentations.py`) that resemble no corruption of ImageNet-C, with
its strengths, `level` in tenths of the strongest, and with what Pillow, which it calls, makes of them: by torchvision
where that does the same to a whole batch, else in plain torch.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from puzzlemix.mixing.draws import on_device

LEVELS = 10
OF_VALUES = ("autocontrast", "equalize", "posterize", "solarize")
OF_PLACES = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
OPERATIONS = OF_VALUES + OF_PLACES


def apply(images: Tensor, operation: np.ndarray, level: np.ndarray, sign: np.ndarray) -> Tensor:
    """Do to each image one operation.

    Args:
        images: (N, C, H, W) uint8.
        operation: (N,) int, places in OPERATIONS; an image of another number stays as it is.
        level: (N,), strengths, of 0 to LEVELS.
        sign: (N,), -1 or 1, directions of those that have one.

    Returns:
        (N, C, H, W) uint8.
    """
    result = images.clone()
    for place, name in enumerate(OF_VALUES):
        if len(which := np.flatnonzero(operation == place)):
            index = on_device(images.device, torch.from_numpy(which))
            result[index] = change_values(name, images[index], level[which])
    if len(which := np.flatnonzero(operation >= len(OF_VALUES))):
        index = on_device(images.device, torch.from_numpy(which))
        names, (height, width) = np.array(OPERATIONS)[operation[which]], images.shape[-2:]
        result[index] = warp(images[index], source_matrices(names, level[which], sign[which], height, width))
    return result


def change_values(name: str, images: Tensor, level: np.ndarray) -> Tensor:
    """Autocontrast, equalize, posterize to 4 - 4 l bits or solarize from 256 - 256 l on, l the level's share of 10."""
    from torchvision.transforms.v2 import functional  # here, since only AugMix needs torchvision

    match name:
        case "autocontrast" | "equalize":  # channel by channel, of which torchvision takes 1 or 3
            return getattr(functional, name)(images.flatten(0, 1)[:, None]).view_as(images)
        case "posterize":
            bits = 4 - (level * 4 / LEVELS).astype(int)  # (N,)
            return images & _of_images(images, 256 - 2 ** (8 - bits))
        case "solarize":
            threshold = 256 - (level * 256 / LEVELS).astype(int)  # (N,)
            return torch.where(images.int() >= _of_images(images, threshold, torch.int32), 255 - images, images)


def source_matrices(names: np.ndarray, level: np.ndarray, sign: np.ndarray, height: int, width: int) -> np.ndarray:
    """Where each pixel of a result comes from: (N, 2, 3), rows for x and y, of (x, y, 1) in pixels from the corner.

    Rotations about the centre by up to 30 degrees, in whole ones; shears from the corner of up to 0.3; translations by
    up to a third of the side, in whole pixels.
    """
    matrices = np.tile(np.eye(2, 3), (len(names), 1, 1))
    angle = np.radians(sign * (level * 30 / LEVELS).astype(int)) * (names == "rotate")
    cos, sin = np.cos(angle), np.sin(angle)
    matrices[:, 0, 0], matrices[:, 0, 1], matrices[:, 1, 0], matrices[:, 1, 1] = cos, -sin, sin, cos
    centre = np.array([width / 2, height / 2])
    matrices[:, :, 2] = centre - matrices[:, :, :2] @ centre
    matrices[:, 0, 1] += sign * level * 0.3 / LEVELS * (names == "shear_x")
    matrices[:, 1, 0] += sign * level * 0.3 / LEVELS * (names == "shear_y")
    for row, (name, side) in enumerate((("translate_x", width), ("translate_y", height))):
        matrices[:, row, 2] += sign * (level * side / 3 / LEVELS).astype(int) * (names == name)
    return matrices


def warp(images: Tensor, matrices: np.ndarray) -> Tensor:
    """Images (N, C, H, W) uint8, each pixel taken from where (N, 2, 3) says, between its neighbours; black beyond."""
    height, width = images.shape[-2:]
    x, y = (torch.arange(side, device=images.device, dtype=torch.float64) + 0.5 for side in (width, height))
    places = torch.stack([x.expand(height, -1), y[:, None].expand(-1, width), torch.ones_like(x).expand(height, -1)])
    source = on_device(images.device, torch.from_numpy(matrices)) @ places.flatten(1)  # (N, 2, H W), pixels' centres
    x, y = source.view(-1, 2, height, width).unbind(1)  # (N, H, W)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    grid = torch.stack([x * (2 / width) - 1, y * (2 / height) - 1], -1).float()  # (N, H, W, 2), in [-1, 1] inside
    moved = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    # Cut off, as Pillow does, who has float64: in float32 a whole number may be missed by a little.
    return ((moved + 1e-3) * inside[:, None]).to(torch.uint8)


def _of_images(images: Tensor, numbers: np.ndarray, dtype: torch.dtype = torch.uint8) -> Tensor:
    """A number of each image, (N, 1, 1, 1)."""
    return on_device(images.device, torch.from_numpy(numbers).to(dtype)).view(-1, 1, 1, 1)
