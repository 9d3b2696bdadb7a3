"""Checks of a dataset's name, image size and labels."""

import re
from collections.abc import Sequence

import numpy as np

from puzzlemix.runtime.errors import require

LONGEST_SIDE = 4096  # pixels
LONGEST_NAME = 180  # bytes; the name of a run's folder, at most 255, adds the network's and the method's


def check_name(name: str) -> None:
    """Raise `InputError` unless a dataset's name can be a folder's, and part of the name of a run's folder."""
    is_a_folder_name = name not in ("", ".", "..") and not re.search(r"[/\x00-\x1f\x7f\ud800-\udfff]", name)
    require(
        is_a_folder_name and len(name.encode()) <= LONGEST_NAME,
        f"dataset.name={name!r} cannot be the name of a folder: give at most {LONGEST_NAME} bytes of text, without / "
        "and control characters; dataset.root= is the folder that it lies in",
    )


def check_image_size(image_size: Sequence[int]) -> None:
    """Raise `InputError` unless it is a height and a width in pixels, which a foreign checkpoint might make huge."""
    is_a_size = len(image_size) == 2 and all(isinstance(n, int) and 1 <= n <= LONGEST_SIDE for n in image_size)
    wanted = f"height and width in pixels, such as [32, 32], at most {LONGEST_SIDE}"
    require(is_a_size, f"dataset.image_size must be {wanted}, not {list(image_size)}")


def check_labels(where: str, labels: np.ndarray, num_classes: int, remedy: str) -> None:
    """Raise `InputError` unless labels (N,) hold each of 0 to num_classes - 1, and nothing else."""
    low, high = int(labels.min()), int(labels.max())
    require(
        low >= 0 and high < num_classes,
        f"{where}: labels from {low} to {high}, but num_classes={num_classes} allows 0 to {num_classes - 1}: "
        f"set dataset.num_classes, or {remedy}",
    )
    missing = np.setdiff1d(np.arange(num_classes), labels)
    require(
        len(missing) == 0,
        f"{where}: {len(missing)} of {num_classes} classes have no image (the first: {missing[:1].tolist()}); "
        f"its folders are probably not the classes: {remedy}",
    )
