"""Corrupted images as Tiny-ImageNet-C and ImageNet-C have them: `<corruption>/<severity>/<class>/*.JPEG`.

They have the size that networks take: the centres of ImageNet-C were cut out before they were corrupted.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2.functional import pil_to_tensor

from puzzlemix.corruptions.names import SEVERITIES
from puzzlemix.data.image_files import ImageFiles, find_images, is_hidden, is_image, read_rgb
from puzzlemix.data.readers import read_batches
from puzzlemix.errors import require


class ClassFolders:
    """A set of such folders; attributes as those of `sets.CorruptedImages`.

    Classes go by their names, however the dataset numbers them. A severity is whole that has as many images as the
    dataset has to test on.

    Args:
        paths: of the corruptions' folders.
        data: the dataset.
        remedy: for errors.

    Raises:
        InputError: classes or size of the images are not the dataset's, or no severity is whole.
    """

    def __init__(self, paths: Mapping[str, Path], data: Any, remedy: str):
        self._paths, self._data, self._remedy = paths, data, remedy
        held = {(name, severity): self._held(name, severity) for name in paths for severity in SEVERITIES}
        whole = _Held(data.test_count, len(data.classes))
        self.images = whole.images
        self.severities: dict[str, tuple[int, ...]] = {}
        self.incomplete: dict[str, str] = {}
        for name in paths:
            lacking = {severity: held[name, severity] for severity in SEVERITIES if held[name, severity] != whole}
            if len(lacking) < len(SEVERITIES):
                self.severities[name] = tuple(severity for severity in SEVERITIES if severity not in lacking)
            if lacking:
                self.incomplete[name] = "; ".join(
                    f"severity {severity} has {there.images} of {whole.images} images, of {there.classes} of "
                    f"{whole.classes} classes"
                    for severity, there in lacking.items()
                )
        examples = [f"{paths[name]}: {lacking}" for name, lacking in self.incomplete.items()]
        require(bool(self.severities), f"no severity of any corruption is whole ({''.join(examples[:1])}): {remedy}")

    def batches(
        self, corruption: str, severity: int, shards: Sequence[Sequence[int]]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Images (B, C, H, W) in [0, 1] and labels (B,), of the places in `shards`."""
        files = find_images(self._folder(corruption, severity), self._remedy)
        number = {name: label for label, name in enumerate(self._data.classes)}
        files = files._replace(labels=np.array([number[name] for name in files.classes])[files.labels])
        pictures = _Pictures(files, self._data.image_size, self._remedy)
        return read_batches(pictures, shards, self._data.workers, self._data.device)

    def _folder(self, corruption: str, severity: int) -> Path:
        return self._paths[corruption] / str(severity)

    def _held(self, corruption: str, severity: int) -> _Held:
        """What a severity's folder holds; one image is looked at, before hours are spent on all."""
        folder = self._folder(corruption, severity)
        if not folder.is_dir():
            return _Held(0, 0)
        classes = [entry.name for entry in os.scandir(folder) if entry.is_dir() and not is_hidden(entry.name)]
        strangers = sorted(set(classes) - set(self._data.classes))
        require(
            not strangers,
            f"{folder} has folders that are not classes of {self._data.name}, such as {''.join(strangers[:1])}: "
            f"{self._remedy}",
        )
        names = {name: [file for file in os.listdir(folder / name) if _is_image(file)] for name in classes}
        names = {name: files for name, files in names.items() if files}
        for name, files in list(names.items())[:1]:
            _read(folder / name / files[0], self._data.image_size, self._remedy)
        return _Held(sum(map(len, names.values())), len(names))


class _Held(NamedTuple):
    images: int
    classes: int


class _Pictures(Dataset):
    """A severity's images, (3, H, W) uint8, and labels."""

    def __init__(self, files: ImageFiles, image_size: Sequence[int], remedy: str):
        self.files, self.image_size, self.remedy = files, image_size, remedy

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = _read(self.files.path(index), self.image_size, self.remedy)
        return pil_to_tensor(image), int(self.files.labels[index])


def _is_image(file: str) -> bool:
    return is_image(file) and not is_hidden(file)  # those that `find_images` finds


def _read(path: Path, image_size: Sequence[int], remedy: str) -> Image.Image:
    """An image, never resized: that would change what was done to it."""
    image = read_rgb(path)
    height, width = image_size
    size = f"{image.height} x {image.width} pixels, the dataset's images {height} x {width}"
    require(image.size == (width, height), f"{path} has {size}: set dataset.image_size to fit, or {remedy}")
    return image
