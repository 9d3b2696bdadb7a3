"""Blur of the lens, of a hand that moves, of glass. Images (B, H, W, 3) are uint8."""

from __future__ import annotations

import math

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter

from puzzlemix.corruptions.pixels import Streams, as_bytes, unit
from puzzlemix.jit import compiled


def gaussian_blur(images: np.ndarray, deviation: float) -> np.ndarray:
    """A Gaussian of this standard deviation in pixels."""
    return as_bytes(smooth(unit(images), deviation))


def smooth(x: np.ndarray, deviation: float, mode: str = "nearest", truncate: float = 4.0) -> np.ndarray:
    """Images (B, H, W, ...) under a Gaussian; its `deviation` in pixels, cut off after `truncate` of them."""
    return gaussian_filter(x, deviation, mode=mode, truncate=truncate, axes=(1, 2))


def defocus_blur(images: np.ndarray, parameters: tuple[float, float]) -> np.ndarray:
    """Out of focus: a point becomes a disk."""
    disk = _disk(*parameters)
    return as_bytes(np.stack([cv2.filter2D(x, -1, disk) for x in unit(images)]))


def _disk(radius: float, softness: float) -> np.ndarray:
    """A disk of sum 1, its edge under a Gaussian of standard deviation `softness` that reaches 1 or 2 pixels."""
    reach, cells = (8, 3) if radius <= 8 else (radius, 5)
    y, x = np.ogrid[-reach : reach + 1, -reach : reach + 1]
    disk = (x**2 + y**2 <= radius**2).astype(np.float32)
    return cv2.GaussianBlur(disk / disk.sum(), (cells, cells), softness)


def motion_blur(images: np.ndarray, parameters: tuple[int, float], streams: Streams) -> np.ndarray:
    """A camera that moves, up to 45 degrees from the horizontal."""
    radius, deviation = parameters
    moved = [
        trail(image.astype(np.float32), radius, deviation, stream.uniform(-45, 45))
        for image, stream in zip(images, streams, strict=True)
    ]
    return np.stack(moved).round().clip(0, 255).astype(np.uint8)  # a library's picture, hence rounded


def trail(x: np.ndarray, radius: int, deviation: float, angle: float) -> np.ndarray:
    """What is seen while (H, W, ...) moves in a straight line, most of it from where it is at last.

    The release has ImageMagick's `MotionBlurImage` do this. Here are its weights, half a Gaussian of 2 radius + 1 taps,
    its rounding of where they fall, and its border, which repeats the edge's pixels.

    Args:
        x: (H, W) or (H, W, C).
        radius: of the trail, in pixels.
        deviation: standard deviation of its weights, in pixels.
        angle: in degrees from the horizontal.
    """
    height, width = x.shape[:2]
    taps = np.arange(2 * radius + 1)
    weights = np.exp(-(taps**2) / (2 * deviation**2))
    weights = (weights / weights.sum()).astype(x.dtype)
    direction = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    dy, dx = (np.ceil(taps * along - 0.5).astype(int) + 2 * radius for along in direction)
    wide = np.pad(x, [(2 * radius,) * 2] * 2 + [(0, 0)] * (x.ndim - 2), mode="edge")
    seen = np.zeros_like(x)
    for weight, top, left in zip(weights, dy, dx, strict=True):
        seen += weight * wide[top : top + height, left : left + width]
    return seen


def zoom_blur(images: np.ndarray, parameters: tuple[float, float]) -> np.ndarray:
    """A camera that nears: the mean of the image and of it zoomed by 1, 1 + step, ..."""
    end, step = parameters
    factors = np.arange(1, end, step)  # whose rounding decides whether `end` is one of them, as in the release
    x = unit(images).astype(np.float32)
    total = x + sum(zoom_in(x, factor) for factor in factors)
    return as_bytes(total / (len(factors) + 1))


def zoom_in(x: np.ndarray, factor: float) -> np.ndarray:
    """The centres of images (B, H, W, ...), enlarged to the images' size, linear between pixels of the centre."""
    for axis in (1, 2):
        side = x.shape[axis]
        cut = math.ceil(side / factor)
        large = round(cut * factor)  # by less than `factor` too large: what juts out is left out
        first, out = (side - cut) // 2, (large - side) // 2
        at = first + np.linspace(0, cut - 1, large)[out : out + side]  # (side,), where each new pixel lies
        before = np.minimum(at.astype(int), first + cut - 1)
        after = np.minimum(before + 1, first + cut - 1)
        share = (at - before).astype(x.dtype).reshape([-1] + [1] * (x.ndim - axis - 1))
        x = x.take(before, axis) * (1 - share) + x.take(after, axis) * share
    return x


def glass_blur(images: np.ndarray, parameters: tuple[float, int, int], streams: Streams) -> np.ndarray:
    """Frosted glass: blurred, pixels shuffled nearby, blurred again."""
    deviation, reach, rounds = parameters
    blurred = as_bytes(smooth(unit(images), deviation))
    _, height, width, _ = images.shape
    for image, stream in zip(blurred, streams, strict=True):
        steps = stream.integers(-reach, reach, (rounds, height - 2 * reach, width - 2 * reach, 2), np.int8)
        _shuffle(image, steps, reach)
    return as_bytes(smooth(unit(blurred), deviation))


@compiled
def _shuffle(image, steps, reach):
    """Give pixels of (H, W, C), from the last to the first, the values of neighbours, in place.

    The release means to swap the two, but swaps views of one array, which copies: what its images have, and these.

    Args:
        image: (H, W, C), changed.
        steps: (rounds, H - 2 reach, W - 2 reach, 2), down and to the right, in [-reach, reach).
        reach: in pixels.
    """
    height, width, channels = image.shape
    rounds, rows, columns, _ = steps.shape
    for r in range(rounds):
        for i in range(rows):
            for j in range(columns):
                y, x = height - reach - i, width - reach - j
                for c in range(channels):
                    image[y, x, c] = image[y + steps[r, i, j, 0], x + steps[r, i, j, 1], c]
