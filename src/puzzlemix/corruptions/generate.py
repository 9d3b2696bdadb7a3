"""A dataset's test images under all corruptions, made here where the released set is not at hand.

They are not the released images: their random draws differ and, a little, the libraries. Errors on them compare
networks with each other; published errors are of the released sets.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from puzzlemix.corruptions.names import RELEASED, SEVERITIES
from puzzlemix.corruptions.record import claim
from puzzlemix.corruptions.sets import regenerated_folder
from puzzlemix.corruptions.severities import severities_for
from puzzlemix.data.arrays import ArrayData
from puzzlemix.data.image_files import read_rgb
from puzzlemix.errors import require, require_choice, require_whole
from puzzlemix.files import whole_file

DEFINITION = 1  # of the corruptions: one more wherever the same seed comes to give other images
LEAST_SIDE = 32  # pixels
VALUES_AT_ONCE = 2_000_000  # of a batch, so that a few batches fit in memory
JPEG_QUALITY = 85  # as in ImageNet-C

# severity, places in the dataset (B,), images (B, H, W, 3) uint8 -> images
Corrupt = Callable[[int, Sequence[int], np.ndarray], np.ndarray]


def generate(data: Any, names: Sequence[str], seed: int, force: bool) -> int:
    """Write a dataset's test images under corruptions into `regenerated_folder(data)`.

    Each image follows from the seed, the corruption, the severity and its place among the test images. What is there is
    left, so that an interrupted call is taken up again.

    Args:
        data: a dataset of `puzzlemix.data`, prepared; it need not be loaded.
        names: of the corruptions.
        seed: of all draws.
        force: make again what is there; a set of another seed, or otherwise made, gives way.

    Returns:
        How many images were made.

    Raises:
        InputError: a corruption is unknown, the libraries or the dataset are not there, or another set is.
        RunError: a file cannot be written.
    """
    for name in names:
        require_choice("corruption", name, RELEASED)
    require_whole("seed", seed, least=0)
    needed = ("cv2", "skimage", "imagecorruptions")  # the last for its photographs of frost
    there = all(importlib.util.find_spec(library) for library in needed)
    require(there, "making corruptions needs OpenCV, scikit-image and imagecorruptions: pip install '.[robustness]'")
    from puzzlemix.corruptions.corrupt import VERSIONS, corrupt  # here, so that preparing datasets does not need them

    folder = regenerated_folder(data)
    writer = _ArrayWriter(data, folder) if isinstance(data, ArrayData) else _FolderWriter(data, folder)
    claim(folder, _record(data.name, writer, seed) | {"versions": VERSIONS}, force)
    made = 0
    with tqdm(total=len(names) * len(SEVERITIES) * writer.count, unit="image", disable=None) as bar:
        for name in names:
            bar.set_description(name)
            if force:
                writer.remove(name)
            made += writer.write(name, partial(corrupt, name, seed), bar)
    return made


def _record(name: str, writer: _ArrayWriter | _FolderWriter, seed: int) -> dict[str, Any]:
    """All that the images follow from, but for the libraries, and a sentence that says so."""
    height, width = writer.size
    require(
        min(writer.size) >= LEAST_SIDE,
        f"corruptions are defined for images of {LEAST_SIDE} pixels a side or more, not {height} x {width}: prepare "
        f"{name} with a larger dataset.image_size",
    )
    release = severities_for(height, width).release
    return {
        "dataset": name,
        "seed": seed,
        "severities": release,
        "definition": DEFINITION,
        "image_size": list(writer.size),
        **writer.options,
        "test_images": writer.count,
        "test_images_crc32": writer.checksum,
        "how": f"made here of {writer.count} test images of {name}, with severities of {release}; not the released set",
        "classes": writer.classes,
    }


class _ArrayWriter:
    """The test images of a dataset in memory, for a set as `array_files.py` reads it."""

    def __init__(self, data: ArrayData, folder: Path):
        self.x, self.y, classes = data.read("test")
        channels = self.x.shape[3]
        require(channels == 3, f"corruptions are defined for red, green and blue; {data.name} has {channels} channels")
        self.folder, self.classes = folder, classes.tolist()
        self.count, self.size, self.options = len(self.y), self.x.shape[1:3], {}
        self.checksum = zlib.crc32(self.y.tobytes(), zlib.crc32(self.x.tobytes()))

    def remove(self, name: str) -> None:
        self._path(name).unlink(missing_ok=True)

    def write(self, name: str, corrupt: Corrupt, bar: tqdm) -> int:
        """Write a corruption's array, unless it is there; returns how many images were made."""
        if not self._path("labels").is_file():
            with whole_file(self._path("labels")) as file:
                np.save(file, np.tile(self.y, len(SEVERITIES)))
        count = len(SEVERITIES) * self.count
        if self._path(name).is_file():
            bar.update(count)
            return 0
        header = {"descr": "|u1", "fortran_order": False, "shape": (count, *self.x.shape[1:])}
        with whole_file(self._path(name)) as file, ThreadPoolExecutor(os.cpu_count()) as threads:
            np.lib.format.write_array_header_1_0(file, header)
            batches = _batches(self.count, self.size)
            for images in threads.map(lambda batch: corrupt(*batch, self.x[batch[1]]), batches):
                file.write(images.tobytes())
                bar.update(len(images))
        return count

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.npy"


class _FolderWriter:
    """The centres of test images in folders, for a set as `class_folders.py` reads it."""

    def __init__(self, data: Any, folder: Path):
        self.files, self.centre = data.test_files(), data.centre
        self.folder, self.classes = folder, self.files.classes
        self.count, self.size, self.options = len(self.files.labels), data.image_size, {"test_resize": data.test_resize}
        self.checksum = zlib.crc32(b"\n".join(self.files.names))

    def remove(self, name: str) -> None:
        if (self.folder / name).is_dir():
            shutil.rmtree(self.folder / name)

    def write(self, name: str, corrupt: Corrupt, bar: tqdm) -> int:
        """Write those images of a corruption that are not there; returns how many were made."""

        def write_batch(batch: tuple[int, Sequence[int]]) -> tuple[int, int]:
            severity, places = batch
            copies = self.files._replace(folder=self.folder / name / str(severity))
            new = [place for place in places if not copies.path(place).is_file()]
            if new:
                images = np.stack([np.asarray(self.centre(read_rgb(self.files.path(place)))) for place in new])
                for place, image in zip(new, corrupt(severity, new, images), strict=True):
                    with whole_file(copies.path(place)) as file:
                        Image.fromarray(image).save(file, "JPEG", quality=JPEG_QUALITY, optimize=True)
            return len(places), len(new)

        made = 0
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            for images, new in threads.map(write_batch, _batches(self.count, self.size)):
                bar.update(images)
                made += new
        return made


def _batches(count: int, size: Sequence[int]) -> Iterator[tuple[int, Sequence[int]]]:
    """Severities, one after the other, with the places of as many images as are corrupted at once."""
    at_once = max(VALUES_AT_ONCE // (3 * size[0] * size[1]), 1)
    for severity in SEVERITIES:
        for first in range(0, count, at_once):
            yield severity, range(first, min(first + at_once, count))
