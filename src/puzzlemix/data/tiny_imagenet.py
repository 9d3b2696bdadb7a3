"""Tiny-ImageNet from its official zip, or from the folder that the zip unpacks to.

    tiny-imagenet-200/train/<class>/images/*.JPEG    500 images of each of 200 classes
    tiny-imagenet-200/val/images/*.JPEG              the test images, 50 of each class
    tiny-imagenet-200/val/val_annotations.txt        the classes of the test images

The test images may also be in `val/<class>/` or `val/<class>/images/`, as many scripts sort them.
"""

import io
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from puzzlemix.data.arrays import Arrays
from puzzlemix.data.image_files import read_rgb
from puzzlemix.runtime.errors import InputError, require

FOLDER = "tiny-imagenet-200/"  # the folder in the zip
SIDE = 64  # pixels per side of an image
REMEDY = "get the official tiny-imagenet-200.zip again (cs231n.stanford.edu)"

Files = Mapping[str, Callable[[], bytes]]  # name relative to FOLDER -> function that reads the file


def read_tiny_imagenet(source: Path) -> tuple[Arrays, Arrays]:
    """Read training images and official validation images, sorted by file name; classes are sorted by their wnids.

    Args:
        source: `tiny-imagenet-200.zip` or the folder `tiny-imagenet-200`.

    Raises:
        InputError: the source is missing or damaged, or lacks the classes of its images.
    """
    require(
        source.exists(),
        f"{source} does not exist: put the official tiny-imagenet-200.zip (cs231n.stanford.edu) there, or give source=",
    )
    try:
        if source.is_dir():
            return _read(source, {path.relative_to(source).as_posix(): path.read_bytes for path in source.rglob("*")})
        with zipfile.ZipFile(source) as archive:
            names = [name for name in archive.namelist() if name.startswith(FOLDER)]
            return _read(source, {name.removeprefix(FOLDER): partial(archive.read, name) for name in names})
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{source} is damaged ({error}): {REMEDY}") from error


def _read(source: Path, files: Files) -> tuple[Arrays, Arrays]:
    images = sorted(name for name in files if name.endswith(".JPEG"))
    train = {name: name.split("/")[1] for name in images if name.startswith("train/")}  # image -> wnid
    test = _validation_wnids(source, files, [name for name in images if name.startswith("val/")])
    require(bool(train and test), f"{source} does not hold train/ and val/ with *.JPEG images: {REMEDY}")

    classes = sorted(set(train.values()))
    strangers = sorted(set(test.values()) - set(classes))
    require(not strangers, f"{source} has images of {strangers[:1]}, which is not one of its classes: {REMEDY}")

    label_of = {wnid: label for label, wnid in enumerate(classes)}
    splits = []
    for split, wnid_of in (("train", train), ("test", test)):
        y = np.array([label_of[wnid] for wnid in wnid_of.values()], np.int64)
        splits.append(Arrays(_pixels(source, files, list(wnid_of), split), y, np.array(classes)))
    return tuple(splits)


def _validation_wnids(source: Path, files: Files, images: Sequence[str]) -> dict[str, str]:
    """The class of each validation image: the name of its folder or, if that is `images`, from the annotations."""
    wnids = {name: name.split("/")[1] for name in images}
    if "images" not in wnids.values():
        return wnids

    file = "val/val_annotations.txt"
    require(file in files, f"{source} has no {file}, which gives the classes of its images: {REMEDY}")
    annotations = [line.split("\t") for line in files[file]().decode(errors="replace").splitlines()]  # file, wnid, box
    wnid_of = {f"val/images/{fields[0]}": fields[1] for fields in annotations if len(fields) > 1}
    unknown = [name for name in images if name not in wnid_of]
    require(not unknown, f"{source}: {file} does not name {unknown[:1]}: {REMEDY}")
    return {name: wnid_of[name] for name in images}


def _pixels(source: Path, files: Files, names: Sequence[str], split: str) -> np.ndarray:
    """The images, (N, 64, 64, 3) uint8; a few grey ones become RGB."""
    x = np.empty((len(names), SIDE, SIDE, 3), np.uint8)
    for i, name in enumerate(tqdm(names, desc=split, unit="image", disable=None)):
        image = read_rgb(io.BytesIO(files[name]()), f"{source}: {name}")
        require(image.size == (SIDE, SIDE), f"{source}: {name} has {image.size} pixels, not 64 x 64: {REMEDY}")
        x[i] = image
    return x
