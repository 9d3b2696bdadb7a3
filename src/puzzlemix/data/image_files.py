"""Image files: found in class folders, and decoded, with errors that name the file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from PIL import Image

from puzzlemix.errors import InputError, require


class ImageFiles(NamedTuple):
    """The images of a folder of class folders, sorted by class and name."""

    folder: Path
    names: np.ndarray  # (N,) bytes, `<class>/<file>`: each worker process would come to copy a list
    labels: np.ndarray  # (N,) int64
    classes: list[str]  # (K,)

    def path(self, index: int) -> Path:
        """Where an image lies."""
        return self.folder / os.fsdecode(self.names[index])


def find_images(folder: Path, remedy: str) -> ImageFiles:
    """All images of `<folder>/<class>/`, in the order and with the labels of torchvision's `ImageFolder`.

    Raises:
        InputError: the folder or its class folders are not there, or one holds no image.
    """
    from torchvision.datasets import ImageFolder  # here, so that images in archives do not need torchvision

    require(folder.is_dir(), f"{folder} is not there: {remedy}")
    try:
        found = ImageFolder(str(folder))
    except FileNotFoundError as error:
        raise InputError(f"{folder} does not hold a folder of images for each class ({error}): {remedy}") from error
    names = [os.fsencode(path.removeprefix(f"{folder}{os.sep}")) for path, _ in found.samples]
    return ImageFiles(folder, np.array(names), np.array(found.targets, np.int64), found.classes)


def read_rgb(file: Path | IO[bytes], name: str | None = None) -> Image.Image:
    """An image file as RGB; of 16 bits the upper 8.

    Args:
        file: its path, or the file itself, open.
        name: for the error; None for the path.

    Raises:
        InputError: it cannot be decoded, or holds numbers of 32 bits, whose range nothing tells.
    """
    try:
        with Image.open(file) as image:
            of_32_bits = image.mode == "F" or (image.mode == "I" and image.format != "PNG")
            require(not of_32_bits, f"{name or file} holds numbers of 32 bits, not pixels: save it with 8 or 16 bits")
            return _upper_bits(image).convert("RGB")
    except InputError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(
            f"{name or file} cannot be read as an image ({type(error).__name__}): replace it, or delete it"
        ) from error


def _upper_bits(image: Image.Image) -> Image.Image:
    """An image of 16 bits, which `convert` would clip at 255, with the upper 8; any other as it is."""
    if not image.mode.startswith("I"):
        return image
    upper = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    upper.info = image.info  # with it the orientation
    return upper
