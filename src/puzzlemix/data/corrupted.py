"""Corrupted test images: CIFAR-10-C, CIFAR-100-C, Tiny-ImageNet-C and ImageNet-C.

Source: Hendrycks and Dietterich, ICLR 2019, and github.com/hendrycks/robustness. A set may be
sorted into a folder for each family of corruptions (`noise/`, ...). It has one of two formats:

    <corruption>.npy                          (5 N, H, W, C) uint8, the N test images at severity 1, then at 2, ...
    labels.npy                                (5 N,) whole numbers

    <corruption>/<severity>/<class>/*.JPEG    of the size that networks take; classes are matched by name
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from puzzlemix.data.checks import check_labels
from puzzlemix.data.image_files import ImageFiles, find_images, is_hidden, is_image, read_batches, read_rgb
from puzzlemix.runtime.errors import InputError, require

STANDARD = (  # the mean corruption error is a mean over these
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)
RELEASED = (*STANDARD, "speckle_noise", "gaussian_blur", "spatter", "saturate")  # the last four are for tuning
SEVERITIES = (1, 2, 3, 4, 5)

RELEASES = {  # dataset -> the folder that the archive of its corrupted test images unpacks to
    "cifar10": "CIFAR-10-C",
    "cifar100": "CIFAR-100-C",
    "tiny_imagenet": "Tiny-ImageNet-C",
    "imagenet": "ImageNet-C",
}
REMEDY = "unpack the released set again"

Batches = Iterator[tuple[Tensor, Tensor]]  # images (B, C, H, W) in [0, 1] and labels (B,) int64
Read = Callable[[str, int, Sequence[Sequence[int]]], Batches]


class CorruptedImages(NamedTuple):
    """A dataset's test images under corruptions.

    Attributes:
        folder: the set's folder.
        severities: for each corruption, in the released order, the severities that have all test images.
        lacking: what is missing of the released corruptions, in words.
        read: (corruption, severity, places among the test images for each batch) -> batches on the dataset's device.
            Raises `RunError` if an image cannot be read.
    """

    folder: Path
    severities: dict[str, tuple[int, ...]]
    lacking: list[str]
    read: Read


def released_folder(data: Any) -> Path | None:
    """The folder of a dataset's released set, next to the dataset's own; None if it does not exist."""
    folder = data.folder.parent / RELEASES[data.name] if data.name in RELEASES else None
    return folder if folder is not None and folder.is_dir() else None


def open_corrupted(folder: Path, data: Any) -> CorruptedImages:
    """Open a set of corrupted images and check that it fits a dataset.

    Args:
        folder: the set's folder, see `released_folder`.
        data: a dataset of `puzzlemix.data`, loaded.

    Raises:
        InputError: the folder is missing, or holds no such set, a damaged one, or another dataset's.
    """
    on = data.evaluated_on
    require(on == "test", f"corrupted images are of the test images, but this run is evaluated on {on} images")
    require(folder.is_dir(), f"{folder} is not there: put {RELEASES.get(data.name, 'such a set')} there")
    if arrays := _find(folder, [f"{name}.npy" for name in RELEASED]):
        severities, incomplete, read = _open_arrays(folder, arrays, data)
    else:
        severities, incomplete, read = _open_folders(folder, _find(folder, RELEASED), data)
    lacking = [name for name in RELEASED if name not in {*severities, *incomplete}]
    lacking += [f"{name} ({what})" for name, what in incomplete.items()]
    return CorruptedImages(folder, severities, lacking, read)


def _find(folder: Path, names: Iterable[str]) -> dict[str, Path]:
    """Those of these files or folders that are in a folder or one of its subfolders, by name without ending."""
    places = [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]
    found = [next((place / name for place in places if (place / name).exists()), None) for name in names]
    return {path.stem: path for path in found if path is not None}


# What both ways of opening return: `severities`, what is missing of a corruption in words, and `read`.
Opened = tuple[dict[str, tuple[int, ...]], dict[str, str], Read]


def _open_arrays(folder: Path, paths: Mapping[str, Path], data: Any) -> Opened:
    """Open arrays, which stay on disk. A damaged one, or one that does not fit, does not affect the others."""
    labels_path = _find(folder, ["labels.npy"]).get("labels")
    require(labels_path is not None, f"{folder} has no labels.npy, the classes of its images: {REMEDY}")
    y = _load(labels_path)
    _check_labels(labels_path, y, data)

    shape = (len(y), *data.image_size, len(data.mean))
    wanted = f"but by the labels and the dataset it should be uint8{list(shape)}"
    arrays: dict[str, np.ndarray] = {}
    incomplete: dict[str, str] = {}
    for name, path in paths.items():
        try:
            x = _load(path)
            is_as_wanted = x.shape == shape and x.dtype == np.uint8
            require(is_as_wanted, f"{path}: {x.dtype}{list(x.shape)}, {wanted}: {REMEDY}")
            arrays[name] = x
        except InputError as error:
            incomplete[name] = str(error)
    require(bool(arrays), next(iter(incomplete.values()), ""))
    labels = torch.from_numpy(y.astype(np.int64)).to(data.device)

    def read(corruption: str, severity: int, shards: Sequence[Sequence[int]]) -> Batches:
        for shard in shards:
            places = (severity - 1) * data.test_count + np.array(shard)
            x = torch.from_numpy(arrays[corruption][places]).to(data.device)  # (B, H, W, C)
            yield x.permute(0, 3, 1, 2).contiguous().float().div_(255), labels[places]

    return dict.fromkeys(arrays, SEVERITIES), incomplete, read


def _check_labels(path: Path, y: np.ndarray, data: Any) -> None:
    """Raise `InputError` unless these are labels of the dataset's N test images, five times over."""
    require(
        y.ndim == 1 and y.dtype.kind in "iu" and len(y) > 0 and len(y) % len(SEVERITIES) == 0,
        f"{path}: {y.dtype}{list(y.shape)} are not whole numbers, (5 N,), for N images at 5 severities: {REMEDY}",
    )
    images, own = len(y) // len(SEVERITIES), data.test_count
    require(images == own, f"{path}: labels of {images} images, but {data.name} has {own} test images: {REMEDY}")
    check_labels(str(path), y, data.num_classes, REMEDY)


def _load(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} is damaged ({error}): {REMEDY}") from error


def _open_folders(folder: Path, paths: Mapping[str, Path], data: Any) -> Opened:
    """Open class folders. A severity is whole if it has as many images and classes as the dataset's test images."""
    require(bool(paths), f"{folder} holds no corruption, neither {RELEASED[0]}.npy nor {RELEASED[0]}/: {REMEDY}")
    images, classes = data.test_count, len(data.classes)
    severities: dict[str, tuple[int, ...]] = {}
    incomplete: dict[str, str] = {}
    for name, path in paths.items():
        whole, lacking = [], []
        for severity in SEVERITIES:
            x, k = _count(path / str(severity), data)
            if (x, k) == (images, classes):
                whole.append(severity)
            else:
                lacking.append(f"severity {severity} has {x} of {images} images, of {k} of {classes} classes")
        if whole:
            severities[name] = tuple(whole)
        if lacking:
            incomplete[name] = "; ".join(lacking)
    examples = [f"{paths[name]}: {what}" for name, what in incomplete.items()]
    require(bool(severities), f"no severity of any corruption is whole ({''.join(examples[:1])}): {REMEDY}")

    def read(corruption: str, severity: int, shards: Sequence[Sequence[int]]) -> Batches:
        files = find_images(paths[corruption] / str(severity), REMEDY)
        files = files._replace(labels=np.array([data.classes.index(name) for name in files.classes])[files.labels])
        return read_batches(_Pictures(files, data.image_size), shards, data.workers, data.device)

    return severities, incomplete, read


def _count(folder: Path, data: Any) -> tuple[int, int]:
    """How many images and classes the folder of a severity holds. Reads one image, before hours are spent on all."""
    if not folder.is_dir():
        return 0, 0
    classes = [entry.name for entry in os.scandir(folder) if entry.is_dir() and not is_hidden(entry.name)]
    strangers = sorted(set(classes) - set(data.classes))
    require(
        not strangers,
        f"{folder} has folders that are not classes of {data.name}, such as {''.join(strangers[:1])}: {REMEDY}",
    )
    images, classes_with_images = 0, 0
    for name in classes:
        files = [file for file in os.listdir(folder / name) if is_image(file) and not is_hidden(file)]
        if files and not images:
            _read_image(folder / name / files[0], data.image_size)
        images += len(files)
        classes_with_images += len(files) > 0
    return images, classes_with_images


class _Pictures(Dataset):
    """A severity's images, (3, H, W) uint8, and labels."""

    def __init__(self, files: ImageFiles, image_size: Sequence[int]):
        self.files, self.image_size = files, image_size

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = _read_image(self.files.path(index), self.image_size)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1), int(self.files.labels[index])


def _read_image(path: Path, image_size: Sequence[int]) -> Image.Image:
    """An image, never resized, since that would change its corruption."""
    image = read_rgb(path)
    height, width = image_size
    size = f"{image.height} x {image.width} pixels, the dataset's images {height} x {width}"
    require(image.size == (width, height), f"{path} has {size}: set dataset.image_size to fit, or {REMEDY}")
    return image
