"""Pixels, and draws, as the corruptions take them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Streams = Sequence[np.random.Generator]  # one for each image of a batch


def unit(images: np.ndarray) -> np.ndarray:
    """Bytes as numbers in [0, 1], of the same shape."""
    return images / 255


def as_bytes(x: np.ndarray) -> np.ndarray:
    """Numbers in [0, 1], clipped, as bytes. What lies between two is cut off, not rounded, as in the releases."""
    return (np.clip(x, 0, 1) * 255).astype(np.uint8)
