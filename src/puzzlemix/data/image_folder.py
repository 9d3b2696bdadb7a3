"""The user's own images as arrays, from a folder for each class."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from puzzlemix.data.arrays import Arrays
from puzzlemix.data.image_files import ImageFiles, class_names, find_images, read_fitted
from puzzlemix.runtime.errors import require
from puzzlemix.runtime.seeding import numpy_stream

REMEDY = "give source=FOLDER, which holds <class>/, or train/<class>/ and test/<class>/, with images"


def read_image_folder(source: Path, image_size: Sequence[int], test_share: float, seed: int) -> tuple[Arrays, Arrays]:
    """Read training and test images, the classes in alphabetical order, all made RGB of one size by `read_fitted`.

    A line on stderr counts the files that are not images.

    Args:
        source: holds `train/<class>/` and `test/<class>/` or `val/<class>/`, or else `<class>/`.
        image_size: height and width in pixels.
        test_share: share of each class's images to test on, in (0, 1), for a source without `test/` or `val/`.
        seed: seed of the choice of test images.

    Raises:
        InputError: the source is not such a folder, or an image cannot be read.
    """
    require(0 < test_share < 1, f"test_share must lie in (0, 1), not {test_share}")
    require(source.is_dir(), f"{source} does not exist: {REMEDY}")
    if (source / "train").is_dir() and class_names(source / "train"):  # not a class called train
        test = source / ("test" if (source / "test").is_dir() else "val")
        problem = f"{source} has train/ but neither test/ nor val/"
        require(test.is_dir(), f"{problem}: add one, or give source={source}/train")
        splits = [find_images(folder, REMEDY, warn=True) for folder in (source / "train", test)]
    else:
        splits = _split(find_images(source, REMEDY, warn=True), test_share, seed)
    require(len(splits[0].classes) >= 2, f"{splits[0].folder} holds one folder, so one class: {REMEDY}")
    return tuple(_arrays(files, image_size, split) for files, split in zip(splits, ("train", "test"), strict=True))


def channel_statistics(x: np.ndarray) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel of (N, H, W, C) uint8 images, for pixels in [0, 1], to 3 digits.

    The deviation of a constant channel is 1, as in scikit-learn's `StandardScaler`, since networks divide by it.
    """
    mean = x.mean((0, 1, 2))  # (C,)
    variance = np.mean([((image - mean) ** 2).mean((0, 1)) for image in x], axis=0)  # (C,)
    mean, std = ([round(float(value) / 255, 3) for value in channel] for channel in (mean, variance**0.5))
    return mean, [value or 1.0 for value in std]


def _split(files: ImageFiles, test_share: float, seed: int) -> tuple[ImageFiles, ImageFiles]:
    """Divide each class at random into training and test images, at least one of each."""
    rng = numpy_stream("test images", seed)
    is_test = np.zeros(len(files.labels), bool)
    for label, name in enumerate(files.classes):
        index = rng.permutation(np.flatnonzero(files.labels == label))
        require(len(index) >= 2, f"{files.folder / name} has 1 image: add another, to train on one and test on one")
        is_test[index[: min(max(round(test_share * len(index)), 1), len(index) - 1)]] = True
    return tuple(files._replace(names=files.names[part], labels=files.labels[part]) for part in (~is_test, is_test))


def _arrays(files: ImageFiles, image_size: Sequence[int], split: str) -> Arrays:
    x = np.empty((len(files.labels), *image_size, 3), np.uint8)
    for i in tqdm(range(len(x)), desc=split, unit="image", disable=None):
        x[i] = read_fitted(files.path(i), image_size)
    return Arrays(x, files.labels, np.array(files.classes))
