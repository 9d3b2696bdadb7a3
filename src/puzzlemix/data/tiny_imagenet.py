"""Tiny-ImageNet from its official zip, or from the folder that the zip unpacks to.

    tiny-imagenet-200/train/<class>/images/*.JPEG    500 images of each of 200 classes
    tiny-imagenet-200/val/images/*.JPEG              the test images, 50 of each class
    tiny-imagenet-200/val/val_annotations.txt        the classes of the test images

A program that takes `val/` for class folders trains on 200 classes and tests on one. The test images may also be sorted
into `val/<class>/` or `val/<class>/images/`.
"""

import io
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from puzzlemix.data.arrays import Arrays
from puzzlemix.data.image_files import read_rgb
from puzzlemix.runtime.errors import InputError, require

FOLDER = "tiny-imagenet-200/"  # in the zip
SIDE = 64  # pixels
REMEDY = "get the official tiny-imagenet-200.zip again (cs231n.stanford.edu)"


class Source(NamedTuple):
    """The zip or the folder."""

    path: Path
    names: list[str]  # of all files, relative to FOLDER
    read: Callable[[str], bytes]  # a name -> the file's content


def read_tiny_imagenet(source: Path) -> tuple[Arrays, Arrays]:
    """Training images and official validation images, sorted by file name; classes are sorted by their wnids.

    Args:
        source: `tiny-imagenet-200.zip` or the folder `tiny-imagenet-200`.

    Raises:
        InputError: the source is missing or damaged, or does not hold the classes of its images.
    """
    require(
        source.exists(),
        f"{source} is not there: put the official tiny-imagenet-200.zip (cs231n.stanford.edu) there, or give source=",
    )
    try:
        if source.is_dir():
            names = [path.relative_to(source).as_posix() for path in source.rglob("*")]
            return _read(Source(source, names, lambda name: (source / name).read_bytes()))
        with zipfile.ZipFile(source) as archive:
            names = [name.removeprefix(FOLDER) for name in archive.namelist() if name.startswith(FOLDER)]
            return _read(Source(source, names, lambda name: archive.read(FOLDER + name)))
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{source} is damaged ({error}): {REMEDY}") from error


def _read(source: Source) -> tuple[Arrays, Arrays]:
    images = sorted(name for name in source.names if name.endswith(".JPEG"))
    train = {name: name.split("/")[1] for name in images if name.startswith("train/")}  # image -> wnid
    test = _validation_wnids(source, [name for name in images if name.startswith("val/")])
    require(bool(train and test), f"{source.path} does not hold train/ and val/ with *.JPEG images: {REMEDY}")

    classes = sorted(set(train.values()))
    strangers = sorted(set(test.values()) - set(classes))
    require(not strangers, f"{source.path} has images of {strangers[:1]}, which is not one of its classes: {REMEDY}")

    label_of = {wnid: label for label, wnid in enumerate(classes)}
    splits = []
    for split, wnid_of in (("train", train), ("test", test)):
        labels = [label_of[wnid] for wnid in wnid_of.values()]
        splits.append(Arrays(_pixels(source, list(wnid_of), split), np.array(labels, np.int64), np.array(classes)))
    return tuple(splits)


def _validation_wnids(source: Source, images: Sequence[str]) -> dict[str, str]:
    """The class of each validation image: the name of its folder or, if that is `images`, from the annotations."""
    wnids = {name: name.split("/")[1] for name in images}
    if "images" not in wnids.values():
        return wnids

    file = "val/val_annotations.txt"
    require(file in source.names, f"{source.path} has no {file}, which tells the classes of its images: {REMEDY}")
    lines = source.read(file).decode(errors="replace").splitlines()
    annotations = [line.split("\t") for line in lines]  # file, wnid, box
    wnid_of = {f"val/images/{fields[0]}": fields[1] for fields in annotations if len(fields) > 1}
    unknown = [name for name in images if name not in wnid_of]
    require(not unknown, f"{source.path}: {file} does not name {unknown[:1]}: {REMEDY}")
    return {name: wnid_of[name] for name in images}


def _pixels(source: Source, names: Sequence[str], split: str) -> np.ndarray:
    """The images, (N, 64, 64, 3) uint8; a few are grey and become RGB."""
    x = np.empty((len(names), SIDE, SIDE, 3), np.uint8)
    for i, name in enumerate(tqdm(names, desc=split, unit="image", disable=None)):
        image = read_rgb(io.BytesIO(source.read(name)), f"{source.path}: {name}")
        require(image.size == (SIDE, SIDE), f"{source.path}: {name} has {image.size} pixels, not 64 x 64: {REMEDY}")
        x[i] = image
    return x
