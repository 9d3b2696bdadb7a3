"""Tiny-ImageNet from its official zip, or from the folder that comes out of it.

    tiny-imagenet-200/wnids.txt                      the 200 classes, in no particular order
    tiny-imagenet-200/train/<class>/images/*.JPEG    500 images each
    tiny-imagenet-200/val/images/*.JPEG              the test images, 50 of each class, all in one folder,
    tiny-imagenet-200/val/val_annotations.txt        and their classes

Whoever reads `val/` as class folders trains on 200 classes and tests on one. `val/<class>/`, into which it is often
rearranged, is read too, with or without `images/` below; anything else is refused.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from puzzlemix.data.image_files import read_rgb
from puzzlemix.data.npz import Arrays
from puzzlemix.runtime.errors import InputError, require, require_choice

FOLDER = "tiny-imagenet-200/"  # in the zip
PIXELS = 64  # a side
REMEDY = "get the official tiny-imagenet-200.zip again (cs231n.stanford.edu)"


class Source(NamedTuple):
    """The zip or folder."""

    path: Path
    names: list[str]  # of all files, below FOLDER
    read: Callable[[str], bytes]  # a file's content, by its name

    def lines(self, name: str) -> list[str]:
        """A text file's lines."""
        require(name in self.names, f"{self.path} has no {name}, which tells the classes of its images: {REMEDY}")
        return self.read(name).decode(errors="replace").splitlines()


def read_tiny_imagenet(source: Path, order: str) -> tuple[Arrays, Arrays]:
    """Training images and official validation images, sorted by file name; the classes are named by their wnids.

    Args:
        source: `tiny-imagenet-200.zip` or the folder `tiny-imagenet-200`.
        order: of the classes: `sorted`, as whatever reads class folders has it, the authors' release too, or `wnids`,
            as in `wnids.txt`.

    Raises:
        InputError: the source is missing or damaged, or the classes of its images are not known.
    """
    require_choice("class_order", order, ("sorted", "wnids"))
    require(
        source.exists(),
        f"{source} is not there: put the official tiny-imagenet-200.zip (cs231n.stanford.edu) there, or give source=",
    )
    try:
        if source.is_dir():
            names = [path.relative_to(source).as_posix() for path in source.rglob("*")]
            return _read(Source(source, names, lambda name: (source / name).read_bytes()), order)
        with zipfile.ZipFile(source) as archive:
            names = [name.removeprefix(FOLDER) for name in archive.namelist() if name.startswith(FOLDER)]
            return _read(Source(source, names, lambda name: archive.read(FOLDER + name)), order)
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{source} is damaged ({error}): {REMEDY}") from error


def _read(source: Source, order: str) -> tuple[Arrays, Arrays]:
    images = sorted(name for name in source.names if name.endswith(".JPEG"))
    train = {name: name.split("/")[1] for name in images if name.startswith("train/")}
    test = _validation_wnids(source, [name for name in images if name.startswith("val/")])
    require(bool(train and test), f"{source.path} does not hold train/ and val/ with *.JPEG images: {REMEDY}")
    classes = sorted(set(train.values())) if order == "sorted" else source.lines("wnids.txt")
    strangers = sorted({*train.values(), *test.values()} - set(classes))
    require(not strangers, f"{source.path} has images of {strangers[:1]}, which is not one of its classes: {REMEDY}")
    label_of = {wnid: label for label, wnid in enumerate(classes)}
    return tuple(
        Arrays(
            _pixels(source, list(wnid_of), split),
            np.array([label_of[wnid] for wnid in wnid_of.values()], np.int64),
            np.array(classes),
        )
        for split, wnid_of in (("train", train), ("test", test))
    )


def _validation_wnids(source: Source, images: Sequence[str]) -> dict[str, str]:
    """The class of each validation image: its folder's name or, where that is `images`, what the annotations say."""
    wnids = {name: name.split("/")[1] for name in images}
    if "images" not in wnids.values():
        return wnids
    annotations = [line.split("\t") for line in source.lines("val/val_annotations.txt")]  # file, wnid, box
    wnid_of = {f"val/images/{file}": wnid for file, wnid, *_ in (fields for fields in annotations if len(fields) > 1)}
    unknown = [name for name in images if name not in wnid_of]
    require(not unknown, f"{source.path}: val/val_annotations.txt does not name {unknown[:1]}: {REMEDY}")
    return {name: wnid_of[name] for name in images}


def _pixels(source: Source, names: Sequence[str], split: str) -> np.ndarray:
    """The images, (N, 64, 64, 3) uint8; some are grey and become RGB."""
    x = np.empty((len(names), PIXELS, PIXELS, 3), np.uint8)
    for i, name in enumerate(tqdm(names, desc=split, unit="image", disable=None)):
        image = read_rgb(io.BytesIO(source.read(name)), f"{source.path}: {name}")
        require(image.size == (PIXELS, PIXELS), f"{source.path}: {name} has {image.size} pixels, not 64 x 64: {REMEDY}")
        x[i] = image
    return x
