"""Datasets that fit in memory: uint8 tensors on the training device, augmented a whole batch at a time.

`scripts/prepare_data.py` writes each split to `<root>/<name>/{train,test}.npz`.
"""

import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from puzzlemix.data.augment import crop_and_flip, draw_crops
from puzzlemix.data.base import Batches, ImageData, Shards, check_labels
from puzzlemix.data.sharding import epoch_shards, places_in_batch
from puzzlemix.runtime.errors import InputError, require, require_whole
from puzzlemix.runtime.files import whole_file
from puzzlemix.runtime.seeding import torch_seed


class Arrays(NamedTuple):
    """One split of a dataset, and the content of its npz file."""

    x: np.ndarray  # (N, H, W, C) uint8
    y: np.ndarray  # (N,) int64
    classes: np.ndarray  # (K,) str


def write_arrays(path: Path, arrays: Arrays) -> None:
    """Write one split, completely or not at all. Raises `RunError` if the file cannot be written."""
    with whole_file(path) as file:
        np.savez(file, **arrays._asdict())


class ArrayData(ImageData):
    """A dataset in memory.

    Args:
        crop_padding: width in pixels of the border of zeros that random crops reach into; 0 for no crops.
        flip: mirror half of the training images.
        validation_per_class: hold out the last images of each class from training, and evaluate on them instead of the
            test images; 0 as released.
        options: the arguments of `ImageData`.

    Raises:
        InputError: an argument is out of range.
    """

    def __init__(self, crop_padding: int = 0, flip: bool = False, validation_per_class: int = 0, **options: Any):
        super().__init__(**options)
        require_whole("dataset.validation_per_class", validation_per_class, least=0)
        require_whole("dataset.crop_padding", crop_padding, least=0, most=min(self.image_size))
        self.crop_padding, self.flip, self.validation_per_class = crop_padding, flip, validation_per_class
        self.evaluated_on = "validation" if validation_per_class else "test"

    def read(self, split: str) -> Arrays:
        """Read the file of the split "train" or "test". Raises `InputError` if it is missing or damaged."""
        path = self.folder / f"{split}.npz"
        require(path.is_file(), f"{path} does not exist: {self._prepare}")
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return Arrays(arrays["x"], arrays["y"], arrays["classes"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise InputError(f"{path} is damaged ({error}): delete it and {self._prepare}") from error

    def load(self, device: torch.device) -> None:
        """Read both splits, check them, and put them on `device`.

        Raises:
            InputError: a file is missing or damaged, or the dataset does not match its config.
        """
        train, test = self.read("train"), self.read("test")
        self.check(train, test, self._remedy)
        if self.validation_per_class:
            train, test = self._hold_out(train)
        self.device = device
        self.classes = [str(name) for name in train.classes]
        self.train_count, self.test_count = len(train.y), len(test.y)
        self._train, self._test = (
            (torch.from_numpy(x).permute(0, 3, 1, 2).contiguous().to(device), torch.from_numpy(y).to(device))
            for x, y, _ in (train, test)
        )

    def check(self, train: Arrays, test: Arrays, remedy: str) -> None:
        """Raise `InputError`, with the remedy, unless both splits are complete and match each other and the config."""
        size = (*self.image_size, len(self.mean))
        for split, (x, y, _) in (("train", train), ("test", test)):
            where, expected = f"{self.name} {split}", self.expected_images[split]
            has_images = x.ndim == 4 and x.dtype == np.uint8 and len(x) > 0
            has_labels = y.dtype == np.int64 and y.shape == x.shape[:1]
            require(
                has_images and has_labels,
                f"{where}: x {x.dtype}{list(x.shape)}, y {y.dtype}{list(y.shape)} are not uint8 images (N, H, W, C) "
                f"and int64 labels (N,): {remedy}",
            )
            require(
                x.shape[1:] == size,
                f"{where}: images are {x.shape[1:]} (H, W, C), the config says {size}: set dataset.image_size, "
                "dataset.mean and dataset.std to fit",
            )
            require(expected in (None, len(y)), f"{where}: {len(y)} images instead of {expected}: {remedy}")
            check_labels(where, y, self.num_classes, remedy)
        is_alike = len(train.classes) == self.num_classes and np.array_equal(train.classes, test.classes)
        what = f"the same {self.num_classes} classes in the same order"
        require(is_alike, f"{self.name}: train and test do not name {what}: {remedy}")

    def check_view(self, **view: object) -> None:
        """Raise `InputError` if a phase of the recipe has a view, which is for folders of large images."""
        require(not view, f"{self.name} has images of one size: a recipe with phases ({sorted(view)}) needs ImageNet")

    def train_batches(self, batch_size: int, drop_last: bool, seed: int, epoch: int, first_step: int = 0) -> Batches:
        """This process's share of an epoch: images (B / P, C, H, W) in [0, 1], augmented, and labels (B / P,).

        Seed and epoch fix the order; seed, epoch, step and place in the global batch fix an image's augmentation. So
        any number of processes sees the same images, and so does a run that resumes at `first_step`.

        Args:
            batch_size: B, of all P processes together.
            drop_last: leave out an incomplete last batch.
            seed, epoch: fix order and augmentation.
            first_step: the first batch to give, from 0.
        """
        x, y = self._train
        generator = torch.Generator(x.device)
        shards = epoch_shards(len(y), batch_size, drop_last, seed, epoch)
        order = torch.from_numpy(np.concatenate(shards)).to(x.device)  # only this waits for a GPU, once per epoch
        indices = order.split([len(shard) for shard in shards])

        for step, index in enumerate(indices[first_step:], start=first_step):
            generator.manual_seed(torch_seed("augmentation", seed, epoch, step, 0))  # equal on all processes
            crops = draw_crops(batch_size, self.crop_padding, self.flip, generator)[places_in_batch(len(index))]
            yield crop_and_flip(x[index], self.crop_padding, crops).float().div_(255), y[index]

    def _plain_batches(self, images: tuple[Tensor, Tensor], shards: Shards) -> Batches:
        x, y = images
        for shard in shards:
            is_even = isinstance(shard, range)  # then no index is copied, and nothing waits for a GPU
            own = slice(shard.start, shard.stop, shard.step) if is_even else torch.tensor(shard, device=y.device)
            yield x[own].float().div_(255), y[own]

    @property
    def _remedy(self) -> str:
        return f"delete {self.folder} and {self._prepare}"

    @property
    def _prepare(self) -> str:
        """The commands that make the files: two, since the name does not show whether the images are the user's own."""
        name = self.folder.name
        own = f"dataset=image_folder dataset.name={name} source=FOLDER"
        return f"run `python scripts/prepare_data.py dataset={name}`, for your own images with `{own}`"

    def _hold_out(self, train: Arrays) -> tuple[Arrays, Arrays]:
        """The training images in two parts: to train on, and the last of each class to evaluate on."""
        k, fewest = self.validation_per_class, np.bincount(train.y).min()
        require(k < fewest, f"validation_per_class must lie between 1 and {fewest - 1}, not {k}")
        is_held = np.zeros(len(train.y), bool)
        for label in range(self.num_classes):
            is_held[np.flatnonzero(train.y == label)[-k:]] = True
        return tuple(Arrays(train.x[part], train.y[part], train.classes) for part in (~is_held, is_held))
