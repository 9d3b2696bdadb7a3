"""Corrupted images as CIFAR-10-C and CIFAR-100-C have them: an array for each corruption.

<corruption>.npy    (5 N, H, W, C) uint8, the N test images at severity 1, then at 2, ...
labels.npy          (5 N,)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from puzzlemix.corruptions.names import SEVERITIES
from puzzlemix.data.checks import check_labels
from puzzlemix.errors import InputError, require


class ArrayFiles:
    """A set of such files; attributes as those of `sets.CorruptedImages`.

    Args:
        paths: of the corruptions' arrays.
        labels: the path of the labels.
        data: the dataset.
        remedy: for errors.

    Raises:
        InputError: a file is damaged, or is not of this dataset.
    """

    def __init__(self, paths: Mapping[str, Path], labels: Path, data: Any, remedy: str):
        y = _read(labels, remedy)
        self.images = _check_labels(labels, y, data, remedy)
        shape = (len(y), *data.image_size, len(data.mean))
        self._arrays: dict[str, np.ndarray] = {}
        self.incomplete: dict[str, str] = {}
        for name, path in paths.items():
            try:
                self._arrays[name] = _read_images(path, shape, remedy)
            except InputError as error:
                self.incomplete[name] = str(error)
        require(bool(self._arrays), "; ".join(list(self.incomplete.values())[:1]))
        self._labels = torch.from_numpy(y.astype(np.int64)).to(data.device)
        self._device = data.device
        self.severities = dict.fromkeys(self._arrays, SEVERITIES)  # an array is whole, or not to be used

    def batches(
        self, corruption: str, severity: int, shards: Sequence[Sequence[int]]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Images (B, C, H, W) in [0, 1] and labels (B,), of the places in `shards`."""
        first = (severity - 1) * self.images
        for shard in shards:
            own = first + np.array(shard)
            x = torch.from_numpy(self._arrays[corruption][own]).to(self._device)  # (B, H, W, C)
            yield x.permute(0, 3, 1, 2).contiguous().float().div_(255), self._labels[own]


def _check_labels(path: Path, y: np.ndarray, data: Any, remedy: str) -> int:
    """N, where these are labels of the dataset's N test images, five times over; else `InputError`."""
    require(
        y.ndim == 1 and y.dtype.kind in "iu" and len(y) > 0 and len(y) % len(SEVERITIES) == 0,
        f"{path}: {y.dtype}{list(y.shape)} are not whole numbers, (5 N,), for N images at 5 severities: {remedy}",
    )
    images = len(y) // len(SEVERITIES)
    own = data.test_count
    require(images == own, f"{path}: labels of {images} images, but {data.name} has {own} test images: {remedy}")
    check_labels(str(path), y, data.num_classes, remedy)
    return images


def _read_images(path: Path, shape: tuple[int, ...], remedy: str) -> np.ndarray:
    """A corruption's array, where it is that of the labels and the dataset; else `InputError`."""
    x = _read(path, remedy)
    fits = x.shape == shape and x.dtype == np.uint8
    wanted = f"but by the labels and the dataset it should be uint8{list(shape)}"
    require(fits, f"{path}: {x.dtype}{list(x.shape)}, {wanted}: {remedy}")
    return x


def _read(path: Path, remedy: str) -> np.ndarray:
    """An array that stays on disk until it is looked at."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} is damaged ({error}): {remedy}") from error
