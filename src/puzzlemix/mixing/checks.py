"""What cannot be mixed: a line that names the argument, its value, and what was expected."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from puzzlemix.runtime.errors import require, require_number, values_are_looked_at


def check_shares(name: str, share: float | Tensor, images: Tensor) -> None:
    """Raise `InputError` unless it is a number in [0, 1], or one an image; those only where values are looked at."""
    if isinstance(share, Tensor):
        fits = share.shape == images.shape[:1] and share.is_floating_point() and share.device == images.device
        wanted, given = f"({len(images)},) floating point on {images.device}", f"{tuple(share.shape)} {share.dtype}"
        require(fits, f"{name} must be a number or {wanted}, not {given} on {share.device}")
        if values_are_looked_at(share.device.type) and len(share):
            low, high = (float(end) for end in share.detach().aminmax())
            require(0 <= low <= high <= 1, f"{name} must lie in [0, 1], not from {low} to {high}")
    else:
        require_number(name, share, 0, 1)


def check_partner(partner: Tensor, images: Tensor) -> None:
    """Raise `InputError` unless it names an image of the batch for each; their range where values are looked at."""
    check_tensor("partner", partner, images, images.shape[:1], torch.int64)
    if values_are_looked_at(images.device.type) and len(partner):
        low, high = int(partner.min()), int(partner.max())
        valid = 0 <= low <= high < len(images)
        require(valid, f"partner must lie in [0, {len(images) - 1}], not from {low} to {high}")


def check_images(images: Tensor) -> None:
    """Raise `InputError` unless they are floating point, (B, C, H, W)."""
    require(isinstance(images, Tensor), f"images must be a tensor, not {type(images).__name__}")
    given = f"floating point, not {images.dtype}"
    require(images.is_floating_point(), f"images must be {given}: convert them, and divide bytes by 255")
    require(images.ndim == 4, f"images must have shape (B, C, H, W), not {tuple(images.shape)}")


def check_saliency(saliency: Tensor, images: Tensor) -> None:
    """Raise `InputError` unless it is that of images (B, C, H, W)."""
    check_tensor("saliency", saliency, images, (len(images), *images.shape[2:]))
    if values_are_looked_at(images.device.type):
        least = float(saliency.detach().nan_to_num(0).min())
        require(least >= 0, f"saliency must not be negative, not {least:.3g}: take its magnitude")


def check_noisy(noisy: Sequence[bool]) -> None:
    """Raise `InputError` unless it is two booleans, for the first image of each pair and for its partner."""
    fits = isinstance(noisy, Sequence) and len(noisy) == 2 and all(isinstance(side, bool) for side in noisy)
    require(fits, f"noisy must be two booleans, for the first and the second image, such as (True, False), not {noisy}")


def check_noise(noise: Tensor | None, noisy: Sequence[bool], images: Tensor) -> None:
    """Raise `InputError` unless `noisy` is two booleans, and there is noise of the images' shape where one is true."""
    check_noisy(noisy)
    if noise is not None:
        check_tensor("noise", noise, images, images.shape)
    require(noise is not None or not any(noisy), "noisy asks for noise: give noise=, of the images' shape")


def check_tensor(
    name: str, given: Tensor, images: Tensor, shape: Sequence[int], dtype: torch.dtype | None = None
) -> None:
    """Raise `InputError` unless it is a tensor of this shape on the images' device, of `dtype` or floating point."""
    require(isinstance(given, Tensor), f"{name} must be a tensor, not {type(given).__name__}")
    require(given.shape == tuple(shape), f"{name} must have shape {tuple(shape)}, not {tuple(given.shape)}")
    same = given.device == images.device
    require(same, f"{name} must be on the images' device, {images.device}, not {given.device}")
    if dtype is None:
        require(given.is_floating_point(), f"{name} must be floating point, not {given.dtype}")
    else:
        require(given.dtype == dtype, f"{name} must be {dtype}, not {given.dtype}")
