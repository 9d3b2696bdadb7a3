"""A split of a dataset on disk: `x` (N, H, W, C) uint8, `y` (N,) int64 and `classes` (K,) str in one npz file."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from puzzlemix.runtime.errors import InputError, require
from puzzlemix.runtime.files import whole_file


class Arrays(NamedTuple):
    """One split of a dataset."""

    x: np.ndarray  # (N, H, W, C) uint8
    y: np.ndarray  # (N,) int64
    classes: np.ndarray  # (K,) str


def read_arrays(path: Path, prepare: str) -> Arrays:
    """Read one split.

    Args:
        path: of the npz file.
        prepare: how it is made, for the error's remedy.

    Raises:
        InputError: the file is missing or damaged.
    """
    require(path.is_file(), f"{path} is not there: {prepare}")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return Arrays(arrays["x"], arrays["y"], arrays["classes"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path} is damaged ({error}): delete it and {prepare}") from error


def write_arrays(path: Path, arrays: Arrays) -> None:
    """Write one split so that a half-written file is never taken for a whole one.

    Raises:
        RunError: it cannot be written.
    """
    with whole_file(path) as file:
        np.savez(file, x=arrays.x, y=arrays.y, classes=arrays.classes)
