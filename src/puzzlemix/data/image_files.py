"""Image files: found in class folders, decoded, and read ahead by worker processes."""

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from puzzlemix.data.base import Batches, Shards
from puzzlemix.runtime import distributed
from puzzlemix.runtime.errors import InputError, RunError, require

BACKGROUND = "white"  # as on a web page: most transparent images are black drawings, which stay visible on it
LAST_READS_S = 60  # how long a worker keeps reading after a SIGTERM


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

    It leaves out files and folders whose names begin with a dot, and files whose endings are not those of images. With
    `warn`, a line on stderr counts the latter.

    Raises:
        InputError: the folder or its class folders are missing, or a class has no image.
    """
    from torchvision.datasets.folder import IMG_EXTENSIONS, is_image_file, make_dataset  # here: reports do not need it

    require(folder.is_dir(), f"{folder} does not exist: {remedy}")
    classes = class_names(folder)
    require(bool(classes), f"{folder} does not hold a folder of images for each class: {remedy}")

    parent = f"{folder}{os.sep}"
    files = make_dataset(
        folder,
        {name: label for label, name in enumerate(classes)},
        is_valid_file=lambda path: f"{os.sep}." not in path.removeprefix(parent),
        allow_empty=True,
    )
    images = [(os.fsencode(path.removeprefix(parent)), label) for path, label in files if is_image_file(path)]
    labels = np.array([label for _, label in images], np.int64)

    counts = np.bincount(labels, minlength=len(classes))
    fewest, endings = counts.argmin(), ", ".join(IMG_EXTENSIONS)
    require(counts[fewest] > 0, f"{folder / classes[fewest]} holds no image ({endings}): {remedy}")
    others = len(files) - len(images)
    if warn and others and distributed.is_main():
        sys.stderr.write(f"warning: {folder}: left out {others} files that are not images ({endings})\n")
    return ImageFiles(folder, np.array([name for name, _ in images]), labels, classes)


def class_names(folder: Path) -> list[str]:
    """Names of the class folders in a folder, sorted."""
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))


# --- decoding ---


def read_rgb(file: Path | IO[bytes], name: str | None = None, turn_upright: bool = False) -> Image.Image:
    """Read an image file as RGB: the first frame of an animation, transparent pixels over `BACKGROUND`.

    Args:
        file: its path, or the open file.
        name: the file's name in errors; None for the path.
        turn_upright: turn the image upright by its EXIF data.

    Raises:
        InputError: the file cannot be decoded, or has more than 8 bits a channel.
    """
    try:
        with Image.open(file) as image:
            has_8_bits = not image.mode.startswith(("I", "F"))
            require(has_8_bits, f"{name or file} has more than 8 bits a channel: save it with 8 bits")
            image = image.copy()  # an opened JPEG hides that its EXIF data are damaged, its copy does not
            if turn_upright:
                image = ImageOps.exif_transpose(image)
            if image.has_transparency_data:
                image = Image.alpha_composite(Image.new("RGBA", image.size, BACKGROUND), image.convert("RGBA"))
            return image.convert("RGB")
    except InputError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = type(error).__name__
        raise InputError(f"{name or file} cannot be read as an image ({reason}): replace it, or delete it") from error


def read_fitted(path: Path, image_size: Sequence[int]) -> Image.Image:
    """Read an image file as `read_rgb` does, upright, and resize it (bicubic) until it just covers a size, and crop it.

    The size is height and width in pixels. Raises `InputError` if the file cannot be read.
    """
    height, width = image_size
    return ImageOps.fit(read_rgb(path, turn_upright=True), (width, height), Image.Resampling.BICUBIC)


# --- reading ahead ---


def read_batches(images: Dataset, shards: Shards, workers: int, device: torch.device) -> Batches:
    """Read batches: images (B, 3, H, W) in [0, 1] and labels (B,), on the device.

    Args:
        images: gives an image (3, H, W) uint8 and its label for an index.
        shards: the indices of each batch.
        workers: number of processes that read ahead; 0 for none.
        device: the device of the batches.

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
    """The loader's iterator. Its workers start with SIGTERM blocked, until they call `_outlast_sigterm`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        return iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _outlast_sigterm(worker: int) -> None:
    """Let a worker keep reading for a while after a SIGTERM, which a cluster sends to all processes of a job.

    The process that trains can then finish its step.
    """
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(LAST_READS_S))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
