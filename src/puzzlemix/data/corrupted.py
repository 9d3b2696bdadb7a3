"""Corrupted test images: CIFAR-10-C, CIFAR-100-C, Tiny-ImageNet-C and ImageNet-C.

Source: Hendrycks and Dietterich, ICLR 2019, and github.com/hendrycks/robustness. A set has one of two formats, and may
have a folder for each family of corruptions (`noise/`, ...):

    <corruption>.npy                          (5 N, H, W, C) uint8, the N test images at severity 1, then at 2, ...
    labels.npy                                (5 N,) whole numbers

    <corruption>/<severity>/<class>/*.JPEG    of the size that networks take; classes are matched by name
"""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from puzzlemix.data.base import Batches, Shards, check_labels
from puzzlemix.data.image_files import find_images, read_batches, read_rgb
from puzzlemix.runtime.errors import InputError, require

NOISE = "gaussian_noise", "shot_noise", "impulse_noise"
BLUR = "defocus_blur", "glass_blur", "motion_blur", "zoom_blur"
WEATHER = "snow", "frost", "fog", "brightness"
DIGITAL = "contrast", "elastic_transform", "pixelate", "jpeg_compression"
STANDARD = (*NOISE, *BLUR, *WEATHER, *DIGITAL)  # the mean corruption error is the mean over these 15
RELEASED = (*STANDARD, "speckle_noise", "gaussian_blur", "spatter", "saturate")  # the last four are for tuning
SEVERITIES = (1, 2, 3, 4, 5)

RELEASES = {  # dataset -> the folder that the archive of its corrupted test images unpacks to
    "cifar10": "CIFAR-10-C",
    "cifar100": "CIFAR-100-C",
    "tiny_imagenet": "Tiny-ImageNet-C",
    "imagenet": "ImageNet-C",
}
REMEDY = "unpack the released set again"

Read = Callable[[int, Shards], Batches]  # (severity, places of each batch) -> batches


class CorruptedImages(NamedTuple):
    """A dataset's test images under corruptions.

    Attributes:
        folder: the set's folder.
        corruptions: a function for each complete corruption, in the released order. It takes a severity and, for each
            batch, the places of its images among the test images. It returns batches on the dataset's device, and
            raises `RunError` if an image cannot be read.
        missing: the released corruptions that are missing or incomplete, in words.
    """

    folder: Path
    corruptions: dict[str, Read]
    missing: list[str]


def released_folder(data: Any) -> Path | None:
    """The folder of a dataset's released set, next to the dataset's own; None if it does not exist."""
    folder = data.folder.parent / RELEASES[data.name] if data.name in RELEASES else None
    return folder if folder is not None and folder.is_dir() else None


def open_corrupted(folder: Path, data: Any) -> CorruptedImages:
    """Open a set of corrupted images. A corruption is complete if it has all test images at all severities.

    Args:
        folder: the set's folder, see `released_folder`.
        data: a dataset of `puzzlemix.data`, loaded.

    Raises:
        InputError: the folder is missing, or holds no complete corruption of this dataset.
    """
    on = data.evaluated_on
    require(on == "test", f"corrupted images are made of test images, but this run is evaluated on {on} images")
    require(folder.is_dir(), f"{folder} does not exist: put {RELEASES.get(data.name, 'such a set')} there")
    if paths := _find(folder, [f"{name}.npy" for name in RELEASED]):
        open_one = partial(_open_array, labels=_read_labels(folder, data), data=data)
    else:
        paths, open_one = _find(folder, RELEASED), partial(_open_folder, data=data)
    require(bool(paths), f"{folder} holds no corruption, neither {RELEASED[0]}.npy nor {RELEASED[0]}/: {REMEDY}")

    corruptions: dict[str, Read] = {}
    problems: dict[str, str] = {}
    for name, path in paths.items():
        try:
            corruptions[name] = open_one(path)
        except InputError as error:
            problems[name] = str(error)
    require(bool(corruptions), f"{folder} holds no complete corruption: {next(iter(problems.values()), '')}")
    missing = [name for name in RELEASED if name not in paths]
    missing += [f"{name} ({problem})" for name, problem in problems.items()]
    return CorruptedImages(folder, corruptions, missing)


def _find(folder: Path, names: Iterable[str]) -> dict[str, Path]:
    """The paths of the named files that exist in a folder or its subfolders, by name without ending."""
    places = [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]
    found = [next((place / name for place in places if (place / name).exists()), None) for name in names]
    return {path.stem: path for path in found if path is not None}


def _read_labels(folder: Path, data: Any) -> np.ndarray:
    """The labels of the N test images, repeated for each severity: (5 N,) int64."""
    path = _find(folder, ["labels.npy"]).get("labels")
    require(path is not None, f"{folder} has no labels.npy, the classes of its images: {REMEDY}")
    labels, count = _load(path), len(SEVERITIES) * data.test_count
    require(
        labels.dtype.kind in "iu" and labels.shape == (count,),
        f"{path}: {labels.dtype}{list(labels.shape)} instead of {count} whole numbers, the classes of the "
        f"{data.test_count} test images of {data.name} at {len(SEVERITIES)} severities: {REMEDY}",
    )
    check_labels(str(path), labels, data.num_classes, REMEDY)
    return labels.astype(np.int64)


def _open_array(path: Path, labels: np.ndarray, data: Any) -> Read:
    """Open a corruption's array, which stays on disk."""
    images, shape = _load(path), (len(labels), *data.image_size, len(data.mean))
    require(
        images.shape == shape and images.dtype == np.uint8,
        f"{path}: {images.dtype}{list(images.shape)} instead of uint8{list(shape)}: {REMEDY}",
    )

    def read(severity: int, shards: Shards) -> Batches:
        for shard in shards:
            places = (severity - 1) * data.test_count + np.array(shard)
            x, y = (torch.from_numpy(array[places]).to(data.device) for array in (images, labels))
            yield x.permute(0, 3, 1, 2).contiguous().float().div_(255), y

    return read


def _load(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} is damaged ({error}): {REMEDY}") from error


def _open_folder(path: Path, data: Any) -> Read:
    """Open a corruption's folder."""
    for severity in SEVERITIES:
        _Pictures(path / str(severity), data)[0]  # reads one image, to find an error before hours of work

    def read(severity: int, shards: Shards) -> Batches:
        return read_batches(_Pictures(path / str(severity), data), shards, data.workers, data.device)

    return read


class _Pictures(Dataset):
    """Images of one severity, (3, H, W) uint8, and labels. Raises `InputError` unless all test images exist."""

    def __init__(self, folder: Path, data: Any):
        self.files, self.image_size = find_images(folder, REMEDY), data.image_size
        differing = sorted({*self.files.classes} ^ {*data.classes})
        require(
            not differing, f"{folder} and {data.name} differ in classes, such as {''.join(differing[:1])}: {REMEDY}"
        )
        count = len(self.files.labels)
        require(count == data.test_count, f"{folder} has {count} of {data.test_count} images: {REMEDY}")
        self.labels = np.array([data.classes.index(name) for name in self.files.classes])[self.files.labels]

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, (height, width) = self.files.path(index), self.image_size
        image = read_rgb(path)
        size = f"{image.height} x {image.width} pixels, the dataset's images {height} x {width}"
        require(image.size == (width, height), f"{path} has {size}: set dataset.image_size to fit, or {REMEDY}")
        return torch.from_numpy(np.array(image)).permute(2, 0, 1), int(self.labels[index])
