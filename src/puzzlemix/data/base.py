"""The base of every dataset: its common arguments and attributes, and checks of these and of its labels."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from puzzlemix.data.sharding import epoch_shards
from puzzlemix.runtime.errors import require

LONGEST_SIDE = 4096  # pixels; a foreign checkpoint may ask for huge images

Shards = Sequence[Sequence[int]]  # the places of images in the dataset, for each batch
Batches = Iterator[tuple[Tensor, Tensor]]  # images (B, C, H, W) and labels (B,) int64


class ImageData:
    """What all datasets have in common.

    Args:
        name: name of the dataset and of its folder.
        num_classes: K.
        image_size: height and width in pixels.
        mean, std: channel statistics for the network's first layer, for pixels in [0, 1].
        train_images, test_images: how many images there must be; None for any number.
        root: the folder that holds the datasets' folders.

    Attributes:
        evaluated_on: "test" or "validation", the images that errors are measured on.
        unclipped: whether values of training images leave [0, 1].
        workers: processes that read image files, for each process that trains; 0 for none.
        device: the device of batches. `load` sets this and the following attributes.
        classes: names of the K classes.
        train_count, test_count: number of images to train on and to evaluate on.

    Raises:
        InputError: an argument is out of range.
    """

    evaluated_on = "test"
    unclipped = False
    workers = 4

    def __init__(
        self,
        name: str,
        num_classes: int,
        image_size: Sequence[int],
        mean: Sequence[float],
        std: Sequence[float],
        train_images: int | None = None,
        test_images: int | None = None,
        root: str = "data",
    ):
        require(
            name.isprintable() and "/" not in name and name not in ("", ".", ".."),
            f"dataset.name={name!r} cannot be the name of a folder: give printable text without /; dataset.root= is "
            "the folder that it lies in",
        )
        require(
            len(image_size) == 2 and all(isinstance(n, int) and 1 <= n <= LONGEST_SIDE for n in image_size),
            "dataset.image_size must be height and width in pixels, such as [32, 32], at most "
            f"{LONGEST_SIDE}, not {list(image_size)}",
        )
        self.name, self.num_classes, self.image_size = name, num_classes, tuple(image_size)
        self.mean, self.std = tuple(mean), tuple(std)
        self.expected_images = {"train": train_images, "test": test_images}
        self.folder = Path(root) / name

    def steps(self, batch_size: int, drop_last: bool) -> int:
        """Number of training steps in an epoch."""
        return len(epoch_shards(self.train_count, batch_size, drop_last, seed=0, epoch=0))

    def test_batches(self, shards: Shards) -> Batches:
        """Images (B, C, H, W) in [0, 1] to evaluate on, not augmented, and labels (B,), at the places in each shard."""
        return self._plain_batches(self._test, shards)

    def plain_train_batches(self, shards: Shards) -> Batches:
        """Training images and labels in the same form, also without augmentation."""
        return self._plain_batches(self._train, shards)


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
        f"{where}: {len(missing)} of {num_classes} classes have no image (the first: {missing[:1]}); the folders "
        f"are probably not the classes: {remedy}",
    )
