"""Image files: found in class folders, decoded, and read ahead by worker processes."""

import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from puzzlemix.runtime import distributed
from puzzlemix.runtime.errors import InputError, RunError, require

SYSTEM_NAMES = {"__macosx", "@eadir", "$recycle.bin", "system volume information", "thumbs.db", "desktop.ini"}
NOT_DECODED = "BUFR", "GRIB", "HDF5", "MPEG", "WMF"  # Pillow recognises these formats, but cannot decode them
BACKGROUND = "white"  # as on a web page: most transparent images are black drawings, which stay visible on it
LAST_READS_S = 60  # how long a worker reads on after a SIGTERM


class ImageFiles(NamedTuple):
    """The images in a folder of class folders, sorted by class and name."""

    folder: Path
    names: np.ndarray  # (N,) bytes, `<class>/<file>`; worker processes share an array, but copy a list
    labels: np.ndarray  # (N,) int64
    classes: list[str]  # (K,)

    def path(self, index: int) -> Path:
        """Path of an image."""
        return self.folder / os.fsdecode(self.names[index])


def find_images(folder: Path, remedy: str, warn: bool = False) -> ImageFiles:
    """Find all images in `<folder>/<class>/`, in the order and with the labels of torchvision's `ImageFolder`.

    It leaves out files that Pillow does not decode, by their ending, and hidden or system files and folders. With
    `warn` a line on stderr reports them.

    Raises:
        InputError: the folder or its class folders are missing, or a class has no image.
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
    left_out = [f"{_counts(unread)} (Pillow does not read these)"] if unread else []
    left_out += [f"{len(hidden)} hidden or of an operating system ({_first_of(hidden)})"] if hidden else []
    left_out += [f"{len(loose)} outside the class folders ({_first_of(loose)})"] if loose else []
    if warn and left_out and distributed.is_main():
        sys.stderr.write(f"warning: {folder}: left out {'; '.join(left_out)}\n")
    return ImageFiles(folder, np.array(names), np.array(labels, np.int64), classes)


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden, or an operating system's own."""
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def is_image(name: str) -> bool:
    """Whether a file has the ending of a format that Pillow decodes."""
    return _ending(name) in _readable_endings()


def _walk(top: str, hidden: list[str]) -> Iterator[tuple[str, list[str], list[str]]]:
    """`os.walk`, names sorted, without hidden files and folders, whose paths it appends to `hidden`."""
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
    decoded = {*Image.OPEN, "MPO"} - {*NOT_DECODED}  # the JPEG reader opens MPO
    return frozenset(ending for ending, name in formats.items() if name in decoded)


def _first_of(names: Sequence[str]) -> str:
    return ", ".join([*names[:3], "..."] if len(names) > 3 else names)


def _counts(endings: Counter[str]) -> str:
    return ", ".join(f"{count} {ending or 'without an ending'}" for ending, count in sorted(endings.items()))


# --- decoding ---


def read_rgb(file: Path | IO[bytes], name: str | None = None, turn_upright: bool = False) -> Image.Image:
    """Read an image file as RGB.

    It keeps the upper 8 of 16 bits and the first frame of an animation. Transparent pixels show `BACKGROUND`.

    Args:
        file: its path, or the open file.
        name: the file's name in errors; None for the path.
        turn_upright: turn the image upright by its EXIF data.

    Raises:
        InputError: the file cannot be decoded, or holds numbers of 32 bits, whose range is unknown.
    """
    try:
        with Image.open(file) as image:
            has_32_bits = image.mode == "F" or (image.mode == "I" and image.format not in ("PNG", "PPM"))
            require(not has_32_bits, f"{name or file} holds numbers of 32 bits, not pixels: save it with 8 or 16 bits")
            image.load()
            rgb = _opaque(_upper_bits(image)).convert("RGB")
        return ImageOps.exif_transpose(rgb) if turn_upright else rgb
    except InputError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = type(error).__name__
        raise InputError(f"{name or file} cannot be read as an image ({reason}): replace it, or delete it") from error


def read_fitted(path: Path, image_size: Sequence[int]) -> Image.Image:
    """Read an image file as `read_rgb` does, upright, resize it (bicubic) until it just covers a size, and crop it.

    Args:
        path: the file.
        image_size: height and width in pixels.

    Raises:
        InputError: the file cannot be read.
    """
    height, width = image_size
    return ImageOps.fit(read_rgb(path, turn_upright=True), (width, height), Image.Resampling.BICUBIC)


def _upper_bits(image: Image.Image) -> Image.Image:
    """The upper 8 bits of an image of 16, which `convert` would clip at 255; any other image unchanged."""
    if not image.mode.startswith("I"):
        return image
    pixels = np.asarray(image)
    upper = Image.fromarray((pixels >> 8).astype(np.uint8))
    if "transparency" in image.info:  # one grey level of 16 bits
        upper.putalpha(Image.fromarray(255 * (pixels != image.info["transparency"]).astype(np.uint8)))
    upper.info = image.info  # holds the orientation
    return upper


def _opaque(image: Image.Image) -> Image.Image:
    """A transparent image over `BACKGROUND`; any other image unchanged."""
    if not image.has_transparency_data:
        return image
    opaque = Image.new("RGBA", image.size, BACKGROUND)
    opaque.alpha_composite(image.convert("RGBA"))
    opaque.info = {key: value for key, value in image.info.items() if key != "transparency"}
    return opaque


# --- reading ahead ---


def read_batches(
    images: Dataset, shards: Sequence[Sequence[int]], workers: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches on the device: images (B, 3, H, W) in [0, 1] and labels (B,).

    Args:
        images: gives an image (3, H, W) uint8 and its label for an index.
        shards: the indices of each batch.
        workers: number of processes that read ahead; 0 for none.
        device: the batches' device.

    Raises:
        RunError: an image cannot be read.
    """
    loader = DataLoader(
        images,
        batch_sampler=shards,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        worker_init_fn=_outlast_sigterm,
        generator=torch.Generator(),  # not the global one, which the training loop draws from
    )
    try:
        for pixels, labels in _start_workers(loader):
            yield pixels.to(device, non_blocking=True).float().div_(255), labels.to(device, non_blocking=True)
    except InputError as error:  # a worker's error holds its traceback, which ends in the message
        message = str(error).strip().rpartition("InputError: ")[2]
        raise RunError(message) from error.with_traceback(None)  # the traceback's frames would keep the workers alive


def _start_workers(loader: DataLoader) -> Iterator[Sequence[Tensor]]:
    """The loader's iterator. Its workers start with SIGTERM blocked, until `_outlast_sigterm` handles it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        return iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _outlast_sigterm(worker: int) -> None:
    """Let a worker read on for a while after a SIGTERM, which a cluster sends to all processes of a job.

    The process that trains can then finish its step.
    """
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(LAST_READS_S))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
