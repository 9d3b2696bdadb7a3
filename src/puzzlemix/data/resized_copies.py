"""Copies of large images, resized beforehand, so that reading them costs less at every epoch."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from puzzlemix.data.image_files import find_images, read_rgb
from puzzlemix.runtime.files import cannot_be_written, unfinished_of

SHORT_SIDES = {"train": (352, 160), "val": (352,)}  # pixels of each split's copies, which the fast recipe reads
FILES_AT_ONCE = 1000  # handed to the threads together


def resized_folder(folder: Path, split: str, short_side: int) -> Path:
    """Where the copies of a dataset's split lie, by their short side in pixels."""
    return folder / f"{split}_{short_side}"


def write_resized_copies(source: Path, destination: Path, short_side: int) -> None:
    """Write all images of `<source>/<class>/` to `<destination>/<class>/` with a short side of `short_side` pixels.

    As released: bicubic, smaller images are enlarged, sides are rounded down (so that a short side of 356 becomes 351,
    not 352), JPEG of Pillow's default quality under the same names. The copies lie in `<destination>.unfinished` until
    all are there, and an interrupted call is taken up again.

    Raises:
        InputError: the source has no class folders, or an image cannot be read.
        RunError: a copy cannot be written.
    """
    files = find_images(source, "give the folder that holds <class>/ with images")
    unfinished = unfinished_of(destination)
    copies = files._replace(folder=unfinished)

    def write(index: int) -> None:
        if not copies.path(index).is_file():
            _write_copy(files.path(index), copies.path(index), short_side)

    count = len(files.names)
    bar = tqdm(total=count, desc=destination.name, unit="image", disable=None)
    with bar, ThreadPoolExecutor(os.cpu_count()) as threads:  # PIL decodes, resizes and encodes outside Python's lock
        for start in range(0, count, FILES_AT_ONCE):
            for _ in threads.map(write, range(start, min(start + FILES_AT_ONCE, count))):
                bar.update()
    os.replace(unfinished, destination)


def _write_copy(path: Path, copy: Path, short_side: int) -> None:
    image = read_rgb(path)
    ratio = min(image.size) / short_side
    image = image.resize([int(side / ratio) for side in image.size], Image.Resampling.BICUBIC)
    unfinished = unfinished_of(copy)
    try:  # not a `whole_file`: to see a million of them onto the disk one by one would take hours
        copy.parent.mkdir(parents=True, exist_ok=True)
        image.save(unfinished, "JPEG")
        os.replace(unfinished, copy)
    except OSError as error:
        raise cannot_be_written(copy, error) from error
