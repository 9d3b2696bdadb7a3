"""Datasets that do not fit in memory: class folders of image files, which worker processes read and augment."""

import os
from collections.abc import Callable
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2
from tqdm import tqdm

from puzzlemix.data.augment import Colors, change_colors, draw_colors
from puzzlemix.data.base import LONGEST_SIDE, Batches, ImageData, Shards, check_labels
from puzzlemix.data.image_files import ImageFiles, find_images, read_batches, read_rgb
from puzzlemix.data.sharding import epoch_shards, places_in_batch
from puzzlemix.runtime.errors import require, require_choice, require_number, require_whole
from puzzlemix.runtime.files import cannot_be_written, unfinished_of
from puzzlemix.runtime.seeding import torch_seed

VIEW = "crop_pixels", "min_scale", "resized_to"  # the keys of a view, which a phase of a recipe may have
SHORT_SIDES = {"train": (352, 160), "val": (352,)}  # pixels; the fast ImageNet recipe reads these copies
FILES_AT_ONCE = 100  # number of files that a thread copies before the progress bar moves on


class ImageFolders(ImageData):
    """A dataset in `<root>/<name>/train/<class>/` and `<root>/<name>/val/<class>/`, such as ImageNet.

    A phase of a recipe may have a view, which gives training images another size than `image_size`.

    Args:
        test_resize: short side in pixels to which test images are resized before their centre is cut out.
        test_resized_to: evaluate on copies of the test images with this short side; None for the images themselves.
        color_jitter: largest relative change of brightness, contrast and saturation of training images; 0 for none.
        lighting: standard deviation of AlexNet's colour noise on training images; 0 for none.
        workers: processes that read images, for each process that trains; 0 for none.
        options: the arguments of `ImageData`.

    Raises:
        InputError: an argument is out of range.
    """

    def __init__(
        self,
        test_resize: int = 256,
        test_resized_to: int | None = None,
        color_jitter: float = 0.0,
        lighting: float = 0.0,
        workers: int = 8,
        **options: Any,
    ):
        super().__init__(**options)
        require_whole("dataset.workers", workers, least=0, most=256)
        require_whole("dataset.test_resize", test_resize, least=1, most=LONGEST_SIDE)
        require(
            test_resize >= max(self.image_size),  # otherwise test images would have a black frame
            f"dataset.test_resize={test_resize} is less than dataset.image_size={list(self.image_size)}: raise it",
        )
        require_number("dataset.color_jitter", color_jitter)
        require_number("dataset.lighting", lighting)
        self.test_resize, self.test_resized_to, self.workers = test_resize, test_resized_to, workers
        self.color_jitter, self.lighting = color_jitter, lighting
        self.unclipped = color_jitter > 0 or lighting > 0

    def load(self, device: torch.device) -> None:
        """Find all images and check them. Batches will be on `device`.

        Raises:
            InputError: the folders are missing, or the dataset does not match its config.
        """
        self.device = device
        train = self._find(self.folder / "train", self.expected_images["train"])
        test = self._find(self.folder / "val", self.expected_images["test"])
        require(
            train.classes == test.classes,
            f"{self.folder}: train/ and val/ do not have the same class folders: sort the images of val/ into "
            "those of train/",
        )
        if self.test_resized_to is not None:
            test = test._replace(folder=self._copies("val", self.test_resized_to))
        self._train, self._test, self.classes = train, test, train.classes
        self.train_count, self.test_count = len(train.labels), len(test.labels)

    def check_view(self, **view: object) -> None:
        """Raise `InputError` if a view in a recipe has wrong values, or needs copies that are missing."""
        for key in view:
            require_choice("key of a view in a recipe", key, VIEW)
        if view.get("crop_pixels") is not None:
            require_whole("crop_pixels of a view in a recipe", view["crop_pixels"], least=1)
        require_number("min_scale of a view in a recipe", view.get("min_scale", 0), 0, 1)
        if view.get("resized_to") is not None:
            self._copies("train", view["resized_to"])

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
    ) -> Batches:
        """This process's share of an epoch: images (B / P, 3, H, W), augmented, and labels (B / P,).

        Pixels are in [0, 1], or beyond if `unclipped`. Seed and epoch fix the order; seed, epoch and place in
        the dataset fix an image's crop; seed, epoch, step and place in the global batch fix its colours. So any number
        of workers and processes sees the same images, and so does a run that resumes at `first_step`.

        Args:
            batch_size, drop_last, seed, epoch, first_step: as for `ArrayData`.
            crop_pixels: height and width of the images; None for the dataset's image size.
            min_scale: smallest share of an image's area that a crop has.
            resized_to: read the copies with this short side (`write_resized_copies`); None for the images themselves.

        Raises:
            RunError: an image cannot be read.
            InputError: the copies are missing.
        """
        folder = self._train.folder if resized_to is None else self._copies("train", resized_to)
        size = self.image_size if crop_pixels is None else (crop_pixels, crop_pixels)
        crop = v2.RandomResizedCrop(size, scale=(min_scale, 1))
        transform = v2.Compose([crop, v2.RandomHorizontalFlip(), v2.PILToTensor()])
        images = _Images(self._train._replace(folder=folder), transform, seed, epoch)
        shards = epoch_shards(self.train_count, batch_size, drop_last, seed, epoch)[first_step:]
        generator = torch.Generator(self.device)

        batches = read_batches(images, shards, self.workers, self.device)
        for step, (pixels, labels) in enumerate(batches, start=first_step):
            if self.unclipped:  # not in the workers, which would have to send floats, 4 times as many bytes
                generator.manual_seed(torch_seed("colors", seed, epoch, step))  # equal on all processes
                colors = draw_colors(batch_size, self.color_jitter, self.lighting, generator)
                change_colors(pixels, Colors(*(drawn[places_in_batch(len(labels))] for drawn in colors)))
            yield pixels, labels

    def _plain_batches(self, files: ImageFiles, shards: Shards) -> Batches:
        """Read the centres of images. Raises `RunError` if an image cannot be read."""
        centre = v2.Compose([v2.Resize([self.test_resize]), v2.CenterCrop(self.image_size), v2.PILToTensor()])
        images = _Images(files, centre, seed=0, epoch=0)  # nothing is random
        return read_batches(images, shards, self.workers, self.device)

    def _find(self, folder: Path, expected: int | None) -> ImageFiles:
        remedy = (
            f"put or link the images of {self.name} into {self.folder}/train/<class>/ and {self.folder}/val/<class>/ "
            "(ImageNet: the ILSVRC 2012 archives of image-net.org, unpacked with torchvision.datasets.ImageNet)"
        )
        files = find_images(folder, remedy, warn=True)
        count = len(files.labels)
        require(expected in (None, count), f"{folder}: {count} images instead of {expected}: {remedy}")
        check_labels(str(folder), files.labels, self.num_classes, remedy)
        return files

    def _copies(self, split: str, short_side: int) -> Path:
        folder, made = resized_folder(self.folder, split, short_side), list(SHORT_SIDES[split])
        remedy = f"`python scripts/prepare_data.py dataset={self.name}` makes copies of {made} pixels"
        require(folder.is_dir(), f"{folder} does not exist: {remedy}")
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


# --- resized copies, which take less time to read in every epoch ---


def resized_folder(folder: Path, split: str, short_side: int) -> Path:
    """The folder of a split's copies with this short side in pixels."""
    return folder / f"{split}_{short_side}"


def write_resized_copies(source: Path, destination: Path, short_side: int) -> None:
    """Copy all images of `<source>/<class>/` to `<destination>/<class>/`, resized to this short side in pixels.

    The copies are made as in the release: bicubic resizing, small images enlarged, sides rounded down (so a short side
    of 356 becomes 351, not 352), JPEG of Pillow's default quality under the same names. They lie in
    `<destination>.unfinished` until all are written, and an interrupted call resumes there.

    Raises:
        InputError: an image cannot be read.
        RunError: a copy cannot be written.
    """
    files = find_images(source, "give the folder that holds <class>/ with images")
    unfinished = unfinished_of(destination)
    copies = files._replace(folder=unfinished)

    def write(index: int) -> None:
        if not copies.path(index).is_file():
            _write_copy(files.path(index), copies.path(index), short_side)

    count = len(files.names)
    with ThreadPool() as threads:  # Pillow releases Python's lock while it works
        copied = threads.imap(write, range(count), chunksize=FILES_AT_ONCE)
        for _ in tqdm(copied, destination.name, count, unit="image", disable=None):
            pass
    os.replace(unfinished, destination)


def _write_copy(path: Path, copy: Path, short_side: int) -> None:
    image = read_rgb(path)
    ratio = min(image.size) / short_side
    image = image.resize([int(side / ratio) for side in image.size], Image.Resampling.BICUBIC)
    unfinished = unfinished_of(copy)
    try:  # not a `whole_file`, which waits for the disk: a million of them would take hours
        copy.parent.mkdir(parents=True, exist_ok=True)
        image.save(unfinished, "JPEG")
        os.replace(unfinished, copy)
    except OSError as error:
        raise cannot_be_written(copy, error) from error
