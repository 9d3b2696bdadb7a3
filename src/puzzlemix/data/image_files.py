"""Image files: found in class folders, and decoded, with errors that name the file."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from puzzlemix.runtime import distributed
from puzzlemix.runtime.errors import InputError, require

SYSTEM_NAMES = {"__macosx", "@eadir", "$recycle.bin", "system volume information", "thumbs.db", "desktop.ini"}
NOT_DECODED = "BUFR", "GRIB", "HDF5", "MPEG", "WMF"  # Pillow recognises these formats, but cannot decode them
BACKGROUND = "white"  # as on a web page: drawings in black, which most transparent images are, stay visible


class ImageFiles(NamedTuple):
    """The images of a folder of class folders, sorted by class and name."""

    folder: Path
    names: np.ndarray  # (N,) bytes, `<class>/<file>`: each worker process would come to copy a list
    labels: np.ndarray  # (N,) int64
    classes: list[str]  # (K,)
    left_out: str  # what else the folder holds, in words

    def path(self, index: int) -> Path:
        """Where an image lies."""
        return self.folder / os.fsdecode(self.names[index])

    def warn_of_left_out(self) -> None:
        """Write a line on stderr about the files that are left out, if there are any."""
        if self.left_out and distributed.is_main():
            sys.stderr.write(f"warning: {self.folder}: left out {self.left_out}\n")


def find_images(folder: Path, remedy: str) -> ImageFiles:
    """All images of `<folder>/<class>/`, in the order and with the labels of torchvision's `ImageFolder`.

    Files that Pillow does not decode, by their ending, and hidden or system files and folders are left out.

    Raises:
        InputError: the folder or its class folders are not there, or one holds no image.
    """
    require(folder.is_dir(), f"{folder} is not there: {remedy}")
    hidden: list[str] = []
    _, classes, loose = next(_walk(str(folder), hidden))
    require(bool(classes), f"{folder} does not hold a folder of images for each class: {remedy}")
    names, labels, unread = [], [], Counter()
    for label, name in enumerate(classes):
        tree = sorted(_walk(os.path.join(folder, name), hidden))
        files = [os.path.join(parent, file) for parent, _, in_parent in tree for file in in_parent]
        images = [file for file in files if is_image(file)]
        others = Counter(_ending(file) for file in {*files} - {*images})
        found = f" ({_counts(others)}: convert these)" if others else ""
        require(bool(images), f"{folder / name} holds no image that Pillow reads{found}: {remedy}")
        names += [os.fsencode(file.removeprefix(f"{folder}{os.sep}")) for file in images]
        labels += [label] * len(images)
        unread += others
    hidden = [path.removeprefix(f"{folder}{os.sep}") for path in hidden]
    return ImageFiles(folder, np.array(names), np.array(labels, np.int64), classes, _left_out(hidden, unread, loose))


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden, or an operating system's own."""
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def is_image(name: str) -> bool:
    """Whether a file has the ending of a format that Pillow decodes."""
    return _ending(name) in _readable_endings()


def read_rgb(file: Path | IO[bytes], name: str | None = None) -> Image.Image:
    """An image file as RGB: of 16 bits the upper 8, of an animation the first frame, transparency over `BACKGROUND`.

    Args:
        file: its path, or the file itself, open.
        name: for the error; None for the path.

    Raises:
        InputError: it cannot be decoded, or holds numbers of 32 bits, whose range nothing tells.
    """
    with _errors_of(name or file), Image.open(file) as image:
        of_32_bits = image.mode == "F" or (image.mode == "I" and image.format not in ("PNG", "PPM"))
        require(not of_32_bits, f"{name or file} holds numbers of 32 bits, not pixels: save it with 8 or 16 bits")
        image.load()
        return _opaque(_upper_bits(image)).convert("RGB")


def read_fitted(path: Path, image_size: Sequence[int]) -> Image.Image:
    """An image file as `read_rgb` gives it, brought to a height and width in pixels.

    It is turned upright as its EXIF data say, resized, bicubically, until it just covers the size, and what juts out on
    two sides is cut off.

    Raises:
        InputError: it cannot be read.
    """
    height, width = image_size
    image = read_rgb(path)
    with _errors_of(path):
        upright = ImageOps.exif_transpose(image)
    return ImageOps.fit(upright, (width, height), Image.Resampling.BICUBIC)


def _walk(top: str, hidden: list[str]) -> Iterator[tuple[str, list[str], list[str]]]:
    """`os.walk` without what is hidden, which is added to `hidden`; names sorted."""
    for parent, folders, files in os.walk(top, followlinks=True):
        out = {name for name in (*folders, *files) if is_hidden(name)}
        hidden += [os.path.join(parent, name) for name in sorted(out)]
        folders[:], files = sorted({*folders} - out), sorted({*files} - out)
        yield parent, folders, files


def _ending(name: str) -> str:
    return os.path.splitext(name)[1].lower()


@cache
def _readable_endings() -> frozenset[str]:
    formats = Image.registered_extensions()
    decoded = {*Image.OPEN, "MPO"} - {*NOT_DECODED}  # the reader of JPEG opens MPO
    return frozenset(ending for ending, name in formats.items() if name in decoded)


def _left_out(hidden: Sequence[str], unread: Counter[str], loose: Sequence[str]) -> str:
    """What `find_images` does not read, in words."""
    parts = [f"{_counts(unread)} (Pillow does not read these)"] if unread else []
    parts += [f"{len(hidden)} hidden or of an operating system ({_first_of(hidden)})"] if hidden else []
    parts += [f"{len(loose)} outside the class folders ({_first_of(loose)})"] if loose else []
    return "; ".join(parts)


def _first_of(names: Sequence[str]) -> str:
    return ", ".join([*names[:3], "..."] if len(names) > 3 else names)


def _counts(endings: Counter[str]) -> str:
    return ", ".join(f"{count} {ending or 'without an ending'}" for ending, count in sorted(endings.items()))


@contextmanager
def _errors_of(file: object) -> Iterator[None]:
    """Raise `InputError` with the file's name for whatever Pillow raises on its content."""
    try:
        yield
    except InputError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = type(error).__name__
        raise InputError(f"{file} cannot be read as an image ({reason}): replace it, or delete it") from error


def _upper_bits(image: Image.Image) -> Image.Image:
    """An image of 16 bits, which `convert` would clip at 255, with the upper 8; any other as it is."""
    if not image.mode.startswith("I"):
        return image
    pixels = np.asarray(image)
    upper = Image.fromarray((pixels >> 8).astype(np.uint8))
    if "transparency" in image.info:  # the one grey level, of all 16 bits, that is transparent
        upper.putalpha(Image.fromarray(255 * (pixels != image.info["transparency"]).astype(np.uint8)))
    upper.info = image.info  # with it the orientation
    return upper


def _opaque(image: Image.Image) -> Image.Image:
    """An image with transparency, laid over `BACKGROUND`; any other as it is."""
    if not image.has_transparency_data:
        return image
    opaque = Image.new("RGBA", image.size, BACKGROUND)
    opaque.alpha_composite(image.convert("RGBA"))
    opaque.info = {key: value for key, value in image.info.items() if key != "transparency"}
    return opaque
