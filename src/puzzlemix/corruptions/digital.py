"""Changes of colour, shape and encoding. Images (B, H, W, 3) are uint8.

The paper counts brightness as weather; here it stands beside saturation, which is changed likewise.
"""

from __future__ import annotations

import io

import cv2
import numpy as np
from PIL import Image
from scipy.ndimage import map_coordinates
from skimage.color import hsv2rgb, rgb2hsv

from puzzlemix.corruptions.blur import smooth
from puzzlemix.corruptions.pixels import Streams, as_bytes, unit


def brightness(images: np.ndarray, added: float) -> np.ndarray:
    """More light: the value of HSV grows."""
    hsv = rgb2hsv(unit(images))  # (B, H, W, 3)
    hsv[..., 2] = np.clip(hsv[..., 2] + added, 0, 1)
    return as_bytes(hsv2rgb(hsv))


def saturate(images: np.ndarray, parameters: tuple[float, float]) -> np.ndarray:
    """Colours fade, at severities 1 and 2, or glare."""
    factor, added = parameters
    hsv = rgb2hsv(unit(images))  # (B, H, W, 3)
    hsv[..., 1] = np.clip(hsv[..., 1] * factor + added, 0, 1)
    return as_bytes(hsv2rgb(hsv))


def contrast(images: np.ndarray, factor: float) -> np.ndarray:
    """Each colour nears its mean over the image."""
    x = unit(images)
    mean = x.mean((1, 2), keepdims=True)  # (B, 1, 1, 3)
    return as_bytes((x - mean) * factor + mean)


def pixelate(images: np.ndarray, scale: float) -> np.ndarray:
    """Larger pixels: means over boxes, at the old size."""
    _, height, width, _ = images.shape
    small = int(width * scale), int(height * scale)
    pixelated = [
        Image.fromarray(image).resize(small, Image.Resampling.BOX).resize((width, height), Image.Resampling.BOX)
        for image in images
    ]
    return np.stack([np.asarray(image) for image in pixelated])


def jpeg_compression(images: np.ndarray, quality: int) -> np.ndarray:
    """Written as JPEG and read again."""
    return np.stack([_through_jpeg(image, quality) for image in images])


def _through_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    with Image.open(file) as compressed:
        return np.asarray(compressed)


def elastic_transform(images: np.ndarray, parameters: tuple[float, float, float], streams: Streams) -> np.ndarray:
    """Stretched as a whole, then each pixel moved much as its neighbours are (Simard, Steinkraus and Platt, 2003)."""
    size, blur, corner = parameters
    pixels = np.indices(images.shape[1:3])  # (2, H, W)
    moved = []
    for x, stream in zip(unit(images).astype(np.float32), streams, strict=True):
        x = _stretched(x, stream.uniform(-corner, corner, (3, 2)))
        steps = size * smooth(stream.uniform(-1, 1, pixels.shape), blur, mode="reflect", truncate=3)
        channels = [
            map_coordinates(channel, pixels + steps, order=1, mode="reflect") for channel in np.moveaxis(x, 2, 0)
        ]
        moved.append(np.stack(channels, axis=2))
    return as_bytes(np.stack(moved))


def _stretched(x: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """An image (H, W, C) under the affine map that moves three corners of a square in its middle by (3, 2) pixels."""
    height, width, _ = x.shape
    middle, half = np.array([width // 2, height // 2]), min(height, width) // 3
    corners = (middle + half * np.array([[1, 1], [1, -1], [-1, -1]])).astype(np.float32)
    to = cv2.getAffineTransform(corners, corners + moves.astype(np.float32))
    return cv2.warpAffine(x, to, (width, height), borderMode=cv2.BORDER_REFLECT_101)
