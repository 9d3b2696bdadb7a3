"""Weather: snow, frost, fog, and water or mud on the lens. Images (B, H, W, 3) are uint8."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from puzzlemix.corruptions.blur import smooth, trail, zoom_in
from puzzlemix.corruptions.pixels import Streams, as_bytes, unit

GREY = np.array([0.299, 0.587, 0.114])  # of red, green, blue
WATER = np.array([175, 238, 238]) / 255  # pale turquoise
MUD = np.array([63, 42, 20]) / 255
# The release has six photographs and draws among five.
PHOTOGRAPHS = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")


def snow(images: np.ndarray, parameters: tuple[float, ...], streams: Streams) -> np.ndarray:
    """Flakes that fall up to 45 degrees from the vertical, over a picture that they whiten."""
    mean, deviation, zoom, least, radius, trail_deviation, kept = parameters
    x = unit(images)
    flakes = np.stack([stream.normal(mean, deviation, images.shape[1:3]) for stream in streams])  # (B, H, W)
    flakes = zoom_in(flakes, zoom)
    flakes = as_bytes(np.where(flakes < least, 0, flakes)).astype(np.float32)  # trails are drawn on bytes
    fallen = [
        trail(layer, radius, trail_deviation, stream.uniform(-135, -45))
        for layer, stream in zip(flakes, streams, strict=True)
    ]
    layer = np.stack(fallen).round()[..., None] / 255  # (B, H, W, 1)
    whitened = np.maximum(x, (x @ GREY)[..., None] * 1.5 + 0.5)
    return as_bytes(kept * x + (1 - kept) * whitened + layer + layer[:, ::-1, ::-1])


def frost(images: np.ndarray, parameters: tuple[float, float, float], streams: Streams) -> np.ndarray:
    """Ice on the lens: a weighted sum with a part of a photograph of frost."""
    kept, share, scale = parameters
    _, height, width, _ = images.shape
    ice = np.empty_like(images)
    for layer, stream in zip(ice, streams, strict=True):
        photograph = _photograph(PHOTOGRAPHS[stream.integers(len(PHOTOGRAPHS))], scale, height, width)
        top, left = stream.integers(photograph.shape[0] - height), stream.integers(photograph.shape[1] - width)
        layer[:] = photograph[top : top + height, left : left + width]
    return np.clip(kept * images + share * ice, 0, 255).astype(np.uint8)


@cache
def _photograph(name: str, scale: float, height: int, width: int) -> np.ndarray:
    """A photograph of frost, RGB, scaled, by more where it would not reach beyond an image of this size."""
    package = Path(importlib.util.find_spec("imagecorruptions").submodule_search_locations[0])
    picture = cv2.imread(str(package / "frost" / name))[..., ::-1]
    scale = max(scale, (height + 1) / picture.shape[0], (width + 1) / picture.shape[1])
    return cv2.resize(picture, None, fx=scale, fy=scale)


def fog(images: np.ndarray, parameters: tuple[float, float], streams: Streams) -> np.ndarray:
    """A fractal haze, and less light, so that the brightest pixel could stay as bright."""
    density, decay = parameters
    x = unit(images)
    _, height, width, _ = x.shape
    side = 1 << (max(height, width) - 1).bit_length()  # a power of 2
    draws = np.stack([stream.uniform(-1, 1, (side, side)) for stream in streams])
    haze = diamond_square(draws, decay)[:, :height, :width, None]  # (B, H, W, 1)
    brightest = x.max((1, 2, 3), keepdims=True)
    return as_bytes((x + density * haze) * brightest / (brightest + density))


def diamond_square(draws: np.ndarray, decay: float) -> np.ndarray:
    """Fractal landscapes on a torus (Fournier, Fussell and Carpenter, 1982), each from 0 to 1.

    From a grid of one point to one of all, the middle of each square, then that of each side, becomes the mean of its
    four neighbours plus a draw, which counts `decay`² times less on each finer grid.

    Args:
        draws: (B, S, S) in [-1, 1], S a power of 2.
        decay: of the square root of the draws' size.
    """
    heights = np.zeros_like(draws)
    step, size = draws.shape[1], 100.0
    while step >= 2:
        first, middle = slice(0, None, step), slice(step // 2, None, step)
        corners = heights[:, first, first]  # views
        centres = heights[:, middle, middle]
        columns = corners + np.roll(corners, -1, axis=1)
        centres[:] = (columns + np.roll(columns, -1, axis=2)) / 4 + size**2 * draws[:, middle, middle]
        above = corners + np.roll(corners, -1, axis=2) + centres + np.roll(centres, 1, axis=1)
        beside = corners + np.roll(corners, -1, axis=1) + centres + np.roll(centres, 1, axis=2)
        heights[:, first, middle] = above / 4 + size**2 * draws[:, first, middle]
        heights[:, middle, first] = beside / 4 + size**2 * draws[:, middle, first]
        step, size = step // 2, size / decay
    heights -= heights.min((1, 2), keepdims=True)
    return heights / heights.max((1, 2), keepdims=True)


def spatter(images: np.ndarray, parameters: tuple[float, ...], streams: Streams) -> np.ndarray:
    """Drops on the lens: of water, which light shines through, or of mud."""
    mean, deviation, blur, least, last, is_mud = parameters
    x = unit(images)
    drops = smooth(np.stack([stream.normal(mean, deviation, images.shape[1:3]) for stream in streams]), blur)
    drops = np.where(drops < least, 0, drops)  # (B, H, W)
    if is_mud:
        mud = smooth((drops > least).astype(np.float32), last)[..., None]
        mud = np.where(mud < 0.8, 0, mud)
        return as_bytes(x * (1 - mud) + mud * MUD)
    water = np.stack([_glints(layer) for layer in as_bytes(drops)])[..., None]
    return as_bytes(x + last * water * WATER)


def _glints(drops: np.ndarray) -> np.ndarray:
    """How brightly drops (H, W) uint8 shine, from 0 to 1: their depth, by how far it is to an edge, seen aslant."""
    edges = cv2.Canny(drops, 50, 150)
    distance = np.minimum(cv2.distanceTransform(255 - edges, cv2.DIST_L2, 5), 20)
    distance = cv2.equalizeHist(cv2.blur(distance, (3, 3)).astype(np.uint8))
    from_top_left = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], np.float32)
    relief = cv2.blur(cv2.filter2D(distance, cv2.CV_8U, from_top_left), (3, 3))
    glints = drops * relief.astype(np.float32)
    return glints / max(glints.max(), 1)  # 1: without any drop there is nothing to see
