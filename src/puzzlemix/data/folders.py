"""Datasets too large for memory: class folders of image files, read and augmented by worker processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from puzzlemix.data.checks import check_image_size, check_labels, check_name
from puzzlemix.data.colors import Colors, change_colors, draw_colors
from puzzlemix.data.image_files import ImageFiles, find_images, read_rgb
from puzzlemix.data.readers import read_batches
from puzzlemix.data.resized_copies import SHORT_SIDES, resized_folder
from puzzlemix.data.sharding import epoch_shards, places_in_batch
from puzzlemix.runtime.errors import InputError, nearest, require, require_number, require_whole
from puzzlemix.runtime.seeding import torch_seed

VIEW = "crop_pixels", "min_scale", "resized_to"  # what a recipe's phase may say of its images


class ImageFolders:
    """A dataset in `<root>/<name>/train/<class>/` and `<root>/<name>/val/<class>/`, such as ImageNet.

    Args:
        name: of the dataset and of its folder.
        num_classes: K.
        image_size: height and width in pixels of the test images, and of the training images unless a view says so.
        mean, std: channel statistics for the network's first layer, pixels in [0, 1].
        test_resize: short side in pixels to which test images are resized before their centre is cut out.
        test_resized_to: evaluate on the test images' copies of this short side; None for the images themselves.
        color_jitter: by up to which share brightness, contrast and saturation of training images change; 0 for none.
        lighting: standard deviation of AlexNet's colour noise on training images; 0 for none.
        workers: processes that read images, for each process that trains; 0 for none.
        train_images, test_images: how many the dataset must have; None where any number will do.
        root: the folder that holds the datasets' folders.

    Raises:
        InputError: a parameter is out of range.
    """

    evaluated_on = "test"

    def __init__(
        self,
        name: str,
        num_classes: int,
        image_size: Sequence[int],
        mean: Sequence[float],
        std: Sequence[float],
        test_resize: int = 256,
        test_resized_to: int | None = None,
        color_jitter: float = 0.0,
        lighting: float = 0.0,
        workers: int = 8,
        train_images: int | None = None,
        test_images: int | None = None,
        root: str = "data",
    ):
        require_whole("dataset.workers", workers, least=0, most=256)
        check_name(name)
        check_image_size(image_size)
        require_whole("dataset.test_resize", test_resize, least=1, most=4096)
        fits = test_resize >= max(image_size)  # else the centre would be framed in black
        require(fits, f"dataset.test_resize={test_resize} is less than dataset.image_size={list(image_size)}: raise it")
        require_number("dataset.color_jitter", color_jitter)
        require_number("dataset.lighting", lighting)
        self.name, self.num_classes, self.image_size = name, num_classes, tuple(image_size)
        self.mean, self.std = tuple(mean), tuple(std)
        self.test_resize, self.test_resized_to = test_resize, test_resized_to
        self.color_jitter, self.lighting = color_jitter, lighting
        self.workers = workers
        self.expected_images = {"train": train_images, "val": test_images}
        self.folder = Path(root) / name

    def load(self, device: torch.device) -> None:
        """Find all images and check them; batches will lie on `device`.

        Raises:
            InputError: the folders are missing, or the dataset is not what its config says.
        """
        self.device = device
        self._train, self._test = self._find("train"), self._find("val")
        if self.test_resized_to is not None:
            copies = self._copies("val", "dataset.test_resized_to", self.test_resized_to)
            self._test = self._test._replace(folder=copies)
        self.classes = self._train.classes
        require(
            self._test.classes == self.classes,
            f"{self.folder}: train/ and val/ do not have the same class folders: sort the images of val/ into those of "
            "train/",
        )

    @property
    def unclipped(self) -> bool:
        """Whether values of training images leave [0, 1]."""
        return self.color_jitter > 0 or self.lighting > 0

    def steps(self, batch_size: int, drop_last: bool) -> int:
        """Training steps an epoch."""
        return len(epoch_shards(self.train_count, batch_size, drop_last, seed=0, epoch=0))

    def check_view(self, **view: Any) -> None:
        """Raise `InputError` where images cannot be cut as a recipe's phase wants them, or are not there."""
        for key in sorted(set(view) - set(VIEW)):
            raise InputError(f"unknown '{key}' in the view of a recipe's phase{nearest(key, VIEW)}")
        if view.get("crop_pixels") is not None:
            require_whole("crop_pixels of a recipe's phase", view["crop_pixels"], least=1)
        require_number("min_scale of a recipe's phase", view.get("min_scale", 0), 0, 1)
        if view.get("resized_to") is not None:
            self._train_copies(view["resized_to"])

    def train_batches(
        self,
        batch_size: int,
        drop_last: bool,
        seed: int,
        epoch: int,
        first_step: int = 0,
        crop_pixels: int | None = None,
        min_scale: float = 0.08,
        resized_to: int | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's share of an epoch: augmented images (B / P, 3, H, W) and labels (B / P,).

        The images are pixels in [0, 1], and beyond where their colours change (`unclipped`). Order follows from seed
        and epoch alone, each image's crop from seed, epoch and its place in the dataset, its colours from seed, epoch,
        step and its place in the global batch. Nothing depends on the number of workers or processes, nor on what was
        drawn before, so that a resumed run sees what it would have seen.

        Args:
            batch_size: of all processes together.
            drop_last: leave out an incomplete last batch.
            seed, epoch: fix order and augmentation.
            first_step: the first batch that is wanted, from 0.
            crop_pixels: a side of the images; None for the dataset's image size.
            min_scale: least share of an image's area that is cut out.
            resized_to: read the copies of this short side (`write_resized_copies`); None for the images themselves.

        Raises:
            RunError: an image cannot be read.
            InputError: the copies are not there.
        """
        files = self._train if resized_to is None else self._train_copies(resized_to)
        size = self.image_size if crop_pixels is None else (crop_pixels, crop_pixels)
        shards = epoch_shards(len(files.labels), batch_size, drop_last, seed, epoch)
        crop = v2.RandomResizedCrop(size, scale=(min_scale, 1))
        pixels = v2.Compose([crop, v2.RandomHorizontalFlip(), v2.PILToTensor()])
        batches = read_batches(_Images(files, pixels, seed, epoch), shards[first_step:], self.workers, self.device)
        generator = torch.Generator(self.device)
        for step, (images, labels) in enumerate(batches, start=first_step):
            if self.unclipped:  # here, for the whole batch: the workers' share would come as floats, 4 times as large
                generator.manual_seed(torch_seed("colors", seed, epoch, step))  # all draw as the first process
                colors = draw_colors(batch_size, self.color_jitter, self.lighting, generator)
                change_colors(images, Colors(*(drawn[places_in_batch(len(labels))] for drawn in colors)))
            yield images, labels

    @property
    def test_count(self) -> int:
        """How many images there are to evaluate on, of the loaded dataset."""
        return len(self._test.labels)

    def test_batches(self, shards: Sequence[Sequence[int]]) -> Iterator[tuple[Tensor, Tensor]]:
        """The centres of test images, and labels, of the places in each shard.

        Raises:
            RunError: an image cannot be read.
        """
        return self._centres(self._test, shards)

    @property
    def train_count(self) -> int:
        """How many training images there are, of the loaded dataset."""
        return len(self._train.labels)

    def plain_train_batches(self, shards: Sequence[Sequence[int]]) -> Iterator[tuple[Tensor, Tensor]]:
        """The centres of training images, cut as those of test images: how well a network knows them.

        Raises:
            RunError: an image cannot be read.
        """
        return self._centres(self._train, shards)

    def _centres(self, files: ImageFiles, shards: Sequence[Sequence[int]]) -> Iterator[tuple[Tensor, Tensor]]:
        pixels = v2.Compose([v2.Resize([self.test_resize]), v2.CenterCrop(self.image_size), v2.PILToTensor()])
        images = _Images(files, pixels, seed=0, epoch=0)  # nothing is drawn
        return read_batches(images, shards, self.workers, self.device)

    def _find(self, split: str) -> ImageFiles:
        folder = self.folder / split
        remedy = (
            f"put or link the images of {self.name} into {self.folder}/train/<class>/ and {self.folder}/val/<class>/ "
            "(ImageNet: the ILSVRC 2012 archives of image-net.org, unpacked with torchvision.datasets.ImageNet)"
        )
        files = find_images(folder, remedy)
        files.warn_of_left_out()
        count, expected = len(files.labels), self.expected_images[split]
        require(expected is None or count == expected, f"{folder}: {count} images instead of {expected}: {remedy}")
        check_labels(str(folder), files.labels, self.num_classes, remedy)
        return files

    def _train_copies(self, short_side: int) -> ImageFiles:
        return self._train._replace(folder=self._copies("train", "resized_to of a recipe's phase", short_side))

    def _copies(self, split: str, key: str, short_side: int) -> Path:
        """The folder of a split's resized copies; `key` asked for them."""
        require_whole(key, short_side, least=1)
        folder, made = resized_folder(self.folder, split, short_side), list(SHORT_SIDES[split])
        remedy = f"`python scripts/prepare_data.py dataset={self.name}` makes copies of {made} pixels"
        require(folder.is_dir(), f"{folder} is not there: {remedy}")
        return folder


class _Images(Dataset):
    """An epoch's images, (3, H, W) uint8, and labels."""

    def __init__(self, files: ImageFiles, transform: Callable[[Image.Image], Tensor], seed: int, epoch: int):
        self.files, self.transform, self.seed, self.epoch = files, transform, seed, epoch

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = read_rgb(self.files.path(index))
        with torch.random.fork_rng(devices=[]):  # transforms draw from the global generator
            torch.default_generator.manual_seed(torch_seed("augmentation", self.seed, self.epoch, int(index)))
            return self.transform(image), int(self.files.labels[index])
