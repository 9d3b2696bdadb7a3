"""A dataset is checked before an epoch is spent on it.

Users of the authors' release were stuck at 0.50 %, chance, on Tiny-ImageNet because their validation folders were not
the classes: what is checked here would have told them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from puzzlemix.data.npz import Arrays
from puzzlemix.runtime.errors import require

LONGEST_NAME = 180  # bytes; run folders, of at most 255, add the names of the network and the method


def check_dataset(
    name: str,
    train: Arrays,
    test: Arrays,
    num_classes: int,
    image_size: Sequence[int],
    channels: int,
    expected_images: Mapping[str, int | None],
    remedy: str,
) -> None:
    """Raise `InputError`, with the remedy, unless both splits are whole, alike, and what the config says."""
    for split, arrays in (("train", train), ("test", test)):
        x, y = arrays.x, arrays.y
        whole = x.ndim == 4 and x.dtype == np.uint8 and y.dtype == np.int64 and y.shape == x.shape[:1] and len(y) > 0
        require(
            whole,
            f"{name} {split}: x {x.dtype}{list(x.shape)}, y {y.dtype}{list(y.shape)} are not uint8 images (N, H, W, C) "
            f"and int64 labels (N,): {remedy}",
        )
        wanted = (*image_size, channels)
        require(
            x.shape[1:] == wanted,
            f"{name} {split}: images are {x.shape[1:]} (H, W, C), the config says {wanted}: set dataset.image_size, "
            "dataset.mean and dataset.std to fit",
        )
        expected = expected_images[split]
        require(
            expected is None or len(y) == expected, f"{name} {split}: {len(y)} images instead of {expected}: {remedy}"
        )
        check_labels(f"{name} {split}", y, num_classes, remedy)
        require(
            len(arrays.classes) == num_classes,
            f"{name} {split}: names of {len(arrays.classes)} classes instead of {num_classes}: {remedy}",
        )
    require(
        bool((train.classes == test.classes).all()),
        f"{name}: train and test number their classes differently, so test labels mean other classes: {remedy}",
    )


def check_name(name: str) -> None:
    """Raise `InputError` unless a dataset's name can be a folder's, and a part of the name of a run's folder."""
    is_a_folder_name = name not in ("", ".", "..") and not re.search(r"[/\x00-\x1f\x7f\ud800-\udfff]", name)
    require(
        is_a_folder_name and len(name.encode()) <= LONGEST_NAME,
        f"dataset.name={name!r} cannot be the name of a folder: give at most {LONGEST_NAME} bytes of text, without / "
        "and control characters; dataset.root= is the folder that it lies in",
    )


def check_image_size(image_size: Sequence[int], most_pixels: int = 4096**2) -> None:
    """Raise `InputError` unless it is a height and a width, of images that fit in memory."""
    fits = len(image_size) == 2 and all(isinstance(side, int) and side >= 1 for side in image_size)
    require(fits, f"dataset.image_size must be height and width in pixels, such as [32, 32], not {list(image_size)}")
    small = image_size[0] * image_size[1] <= most_pixels
    require(small, f"dataset.image_size must have at most {most_pixels} pixels, not {list(image_size)}")


def check_labels(what: str, labels: np.ndarray, num_classes: int, remedy: str) -> None:
    """Raise `InputError` unless the labels are all of 0..num_classes - 1, each there at least once."""
    low, high = int(labels.min()), int(labels.max())
    require(
        low >= 0 and high < num_classes,
        f"{what}: labels from {low} to {high}, but num_classes={num_classes} allows 0 to {num_classes - 1}: "
        f"set dataset.num_classes, or {remedy}",
    )
    missing = np.setdiff1d(np.arange(num_classes), labels)
    require(
        len(missing) == 0,
        f"{what}: {len(missing)} of {num_classes} classes have no image (the first: {missing[:1].tolist()}); "
        f"its folders are probably not the classes: {remedy}",
    )
