"""Noise of the sensor and of the bits. Images (B, H, W, 3) are uint8; each is changed by a stream of its own."""

from __future__ import annotations

import numpy as np

from puzzlemix.corruptions.pixels import Streams, as_bytes, unit


def gaussian_noise(images: np.ndarray, deviation: float, streams: Streams) -> np.ndarray:
    """As in poor light: x + N(0, deviation²)."""
    return as_bytes(unit(images) + deviation * _normal(images.shape[1:], streams))


def speckle_noise(images: np.ndarray, deviation: float, streams: Streams) -> np.ndarray:
    """Stronger where it is bright: x + x N(0, deviation²)."""
    return as_bytes(unit(images) * (1 + deviation * _normal(images.shape[1:], streams)))


def shot_noise(images: np.ndarray, photons: float, streams: Streams) -> np.ndarray:
    """Light is discrete: Poisson(x photons) / photons."""
    counts = [stream.poisson(x * photons) for x, stream in zip(unit(images), streams, strict=True)]
    return as_bytes(np.stack(counts) / photons)


def impulse_noise(images: np.ndarray, share: float, streams: Streams) -> np.ndarray:
    """Salt and pepper: that share of all values, of each colour by itself, becomes black or white."""
    draw = np.stack([stream.random(images.shape[1:]) for stream in streams])  # (B, H, W, 3)
    black_or_white = np.where(draw < share / 2, 0, 255).astype(np.uint8)
    return np.where(draw < share, black_or_white, images)


def _normal(shape: tuple[int, ...], streams: Streams) -> np.ndarray:
    return np.stack([stream.standard_normal(shape) for stream in streams])  # (B, *shape)
