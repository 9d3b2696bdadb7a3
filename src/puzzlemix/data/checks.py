"""Checks of a dataset's name, image size and labels."""

from collections.abc import Sequence

import numpy as np

from puzzlemix.runtime.errors import require

LONGEST_SIDE = 4096  # pixels


def check_name(name: str) -> None:
    """Raise `InputError` unless a dataset's name can be the name of its folder, and be part of a run's."""
    require(
        name.isprintable() and "/" not in name and name not in ("", ".", ".."),
        f"dataset.name={name!r} cannot be the name of a folder: give printable text without /; dataset.root= is the "
        "folder that it lies in",
    )


def check_image_size(image_size: Sequence[int]) -> None:
    """Raise `InputError` unless it is a height and a width in pixels; a foreign checkpoint might make them huge."""
    require(
        len(image_size) == 2 and all(isinstance(n, int) and 1 <= n <= LONGEST_SIDE for n in image_size),
        "dataset.image_size must be height and width in pixels, such as [32, 32], at most "
        f"{LONGEST_SIDE}, not {list(image_size)}",
    )


def check_labels(where: str, labels: np.ndarray, num_classes: int, remedy: str) -> None:
    """Raise `InputError` unless labels (N,) are 0 to num_classes - 1, each at least once."""
    low, high = int(labels.min()), int(labels.max())
    require(
        low >= 0 and high < num_classes,
        f"{where}: labels from {low} to {high}, but num_classes={num_classes} allows 0 to {num_classes - 1}: "
        f"set dataset.num_classes, or {remedy}",
    )
    missing = np.setdiff1d(np.arange(num_classes), labels).tolist()
    require(
        not missing,
        f"{where}: {len(missing)} of {num_classes} classes have no image (the first: {missing[:1]}); its folders are "
        f"probably not the classes: {remedy}",
    )
